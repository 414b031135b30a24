"""Everything is killed at once, as a machine that is switched off does it (but what was written stays written)."""

from __future__ import annotations

import random

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground
from tests.faults.kills import assert_the_next_build_is_good, descendants, kill, kills, start_and_wait


@pytest.mark.parametrize("number", kills(1))
def test_after_a_kill_of_all_processes_the_next_build_is_good(
    ground: Ground, undisturbed: Undisturbed, chance: random.Random, number: int
) -> None:
    build = start_and_wait(ground, undisturbed, chance)
    steps = descendants(build)
    build.kill()
    kill(steps)
    build.communicate()
    assert_the_next_build_is_good(ground, undisturbed)
