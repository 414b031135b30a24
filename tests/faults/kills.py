"""SIGKILL at a moment of a build, and what must hold then. How many: FLATPACK_KILLS in all (200 in CI)."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time

import psutil

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground, remove

_DEFAULT = 40
_WAYS = 4


def kills(way: int) -> range:
    """The numbers of the kills of one of the four ways."""
    every = int(os.environ.get("FLATPACK_KILLS", _DEFAULT))
    return range(every // _WAYS + (way < every % _WAYS))


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def start_and_wait(ground: Ground, undisturbed: Undisturbed, chance: random.Random) -> subprocess.Popen[str]:
    """A build, some random part of the way through."""
    wait = chance.uniform(0, undisturbed.seconds)
    print(f"killed after {wait:.3f} s of {undisturbed.seconds:.3f} s")
    build = ground.start("build", "small")
    time.sleep(wait)
    return build


def assert_the_next_build_is_good(ground: Ground, undisturbed: Undisturbed) -> None:
    ground.good_build()
    assert ground.payloads() == undisturbed.payloads
    ground.assert_clean()
    remove(ground.root)  # hundreds of them would fill the disk of temporary files
