from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flatpack_build.fetching.http import Policy
from tests.fetching.server import Site, running


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as site:
        yield site


@pytest.fixture
def waits() -> list[float]:
    """The pauses that were made, in seconds."""
    return []


@pytest.fixture
def policy(waits: list[float]) -> Policy:
    """As patient as ever, but with a clock that does not tick."""
    return Policy(sleep=waits.append, chance=lambda: 0.5, read_timeout=5)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
