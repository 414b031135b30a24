"""Processes of steps are killed, as the system does it when memory runs out: the build says so and ends."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground
from tests.faults.kills import assert_the_next_build_is_good, descendants, kill, kills, start_and_wait


@pytest.mark.parametrize("number", kills(3))
def test_after_a_kill_of_its_steps_a_build_says_so_and_the_next_is_good(
    ground: Ground, undisturbed: Undisturbed, chance: random.Random, number: int
) -> None:
    build = start_and_wait(ground, undisturbed, chance)
    while build.poll() is None and not descendants(build):
        time.sleep(0.001)
    steps = descendants(build)
    kill(steps)
    said, _ = build.communicate(timeout=60)
    assert "Traceback" not in said, said
    if build.returncode != 0:
        assert "FAILED" in said
        assert "SIGKILL" in said or "exit status 137" in said, said
    assert_the_next_build_is_good(ground, undisturbed)
