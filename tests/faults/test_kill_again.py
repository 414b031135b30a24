"""One kill after another, each somewhere in what is left to do; the cache grows all the same."""

from __future__ import annotations

import random

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground
from tests.faults.kills import assert_the_next_build_is_good, descendants, kill, kills, start_and_wait

_IN_A_ROW = 4


@pytest.mark.parametrize("number", kills(2)[::_IN_A_ROW])
def test_after_kills_in_a_row_the_next_build_is_good(
    ground: Ground, undisturbed: Undisturbed, chance: random.Random, number: int
) -> None:
    for _ in range(min(_IN_A_ROW, len(kills(2)) - number)):
        build = start_and_wait(ground, undisturbed, chance)
        steps = descendants(build)
        build.kill()
        kill(steps)
        build.communicate()
    assert_the_next_build_is_good(ground, undisturbed)
