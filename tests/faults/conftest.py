"""What the tests of faults share: one small project, never built, and what an undisturbed build of it gives."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from flatpack_build.digest import Digest
from tests.faults.ground import Ground, make_ground

SEED = os.environ.get("FLATPACK_SEED", "1")


@dataclass(frozen=True)
class Undisturbed:
    """A project that nothing was built in yet; the payloads that its build gives, and how many seconds that takes."""

    fresh: Ground
    payloads: Mapping[str, Digest]
    seconds: float


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Made once in each worker."""
    folder = tmp_path_factory.mktemp("undisturbed")
    fresh = make_ground(folder / "fresh", "small")
    built = fresh.copy(folder / "built")
    start = time.monotonic()
    built.good_build()
    seconds = time.monotonic() - start
    payloads = built.payloads()
    assert len(payloads) == 2
    built.assert_clean()
    return Undisturbed(fresh, payloads, seconds)


@pytest.fixture
def ground(undisturbed: Undisturbed, tmp_path: Path) -> Ground:
    """The small project, not built yet."""
    return undisturbed.fresh.copy(tmp_path / "ground")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that are others for each test; FLATPACK_SEED=... gives others again."""
    seed = f"{SEED}:{request.node.name}"
    print(f"random numbers from the seed {seed!r}")
    return random.Random(seed)
