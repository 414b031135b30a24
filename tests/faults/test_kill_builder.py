"""The builder alone is killed: its steps die with it, and the next build begins at once."""

from __future__ import annotations

import random

import psutil
import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground
from tests.faults.kills import assert_the_next_build_is_good, descendants, kills, start_and_wait


@pytest.mark.parametrize("number", kills(0))
def test_after_a_kill_of_the_builder_the_next_build_is_good(
    ground: Ground, undisturbed: Undisturbed, chance: random.Random, number: int
) -> None:
    build = start_and_wait(ground, undisturbed, chance)
    steps = descendants(build)
    build.kill()
    build.wait()
    assert_the_next_build_is_good(ground, undisturbed)
    _, alive = psutil.wait_procs(steps, timeout=5)
    assert alive == []
    build.communicate()
