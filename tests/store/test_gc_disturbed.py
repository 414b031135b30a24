"""Garbage collection beside builds, and stopped halfway: nothing in use goes, and what is left is a valid cache."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.events import listening
from flatpack_build.limits import Limits
from flatpack_build.store.gc import collect, collect_if_free
from flatpack_build.store.inventory import take_inventory
from flatpack_build.store.use import CacheUse, have_alone, is_due
from tests.computing import LINKS, Ground, linked, write
from tests.store.filling import DAY, LATER, Cache, fill

# --- who uses it


def test_nothing_is_collected_while_a_build_uses_the_cache(cache: Cache) -> None:
    fill(cache)
    waited: list[str] = []
    one, two = CacheUse(cache.root), CacheUse(cache.root)
    for use in (one, one, two):
        use.hold(lambda: waited.append("waited"))
    assert collect_if_free(cache.root, Limits(max_size=0), now=LATER) is None
    one.release()
    assert have_alone(cache.root, wait=False) is None
    assert len(cache.known()) == 6
    two.release()
    assert collect_if_free(cache.root, Limits(max_size=0), now=LATER) is not None
    assert cache.known() == set()
    assert waited == []


def test_a_day_lies_between_two_collections_of_builds(cache: Cache) -> None:
    fill(cache, 1)
    assert is_due(cache.root, now=LATER)
    collect_if_free(cache.root, Limits(max_size=10**9), now=LATER)
    assert not is_due(cache.root, now=LATER)
    assert not is_due(cache.root, now=LATER + 0.9 * DAY)
    assert is_due(cache.root, now=LATER + 1.1 * DAY)
    assert is_due(cache.root, now=LATER - 60)  # the clock was set back: who knows


# --- crashes

KILLED = """
import os, signal, sys
from pathlib import Path
from flatpack_build.events import listening
from flatpack_build.limits import Limits
from flatpack_build.store.gc import collect

class Killer:
    def progress(self, done, total, unit):
        if done == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    def note(self, text): ...

with listening(Killer()):
    collect(Path(sys.argv[1]), Limits(max_size=250_000), now=float(sys.argv[3]))
"""


@pytest.mark.parametrize("moment", [1, 3, 4, 5, 9, 12])
def test_a_kill_in_the_middle_leaves_a_valid_cache(cache: Cache, moment: int) -> None:
    keys = fill(cache)
    script = textwrap.dedent(KILLED)
    arguments = [sys.executable, "-c", script, str(cache.root), str(moment), str(LATER)]
    killed = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert cache.dangling() == []
    assert cache.known() >= set(keys[-2:])
    collect(cache.root, Limits(max_size=250_000), now=LATER)
    assert cache.known() == set(keys[-2:])
    assert len(take_inventory(cache.root).blobs) == 4
    assert take_inventory(cache.root).size <= 250_000


# --- builds agree before and after


class StoppedError(Exception):
    pass


class Stopping:
    """Stands for a kill: the collection ends after so many removals."""

    def __init__(self, after: int) -> None:
        self._after = after

    def progress(self, done: int, total: int | None, unit: str) -> None:
        if done >= self._after:
            raise StoppedError

    def note(self, text: str) -> None: ...


@settings(max_examples=60, deadline=None)
@given(
    links=LINKS,
    collections=st.lists(
        st.tuples(st.integers(0, 1000), st.integers(0, 4000), st.sampled_from([0, 3, 100]), st.integers(0, 30)),
        min_size=1,
        max_size=3,
    ),
)
def test_any_collection_leaves_builds_that_give_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    links: list[tuple[int, int]],
    collections: list[tuple[int, int, int, int]],
) -> None:
    """Which actions go is chance: the order of their last uses (a seed) and the limit decide; some are stopped early."""
    ground = Ground(tmp_path_factory.mktemp("ground"))
    for number in range(3):
        write(ground, str(number), "aB"[number % 2] * (number + 1))
    actions = linked(ground.user, links)
    first = ground.build(actions)
    cache = Cache(ground.root / "cache")
    for seed, limit, hours, stop in collections:
        chance = random.Random(seed)
        for key in sorted(cache.known()):
            cache.used(key, chance.random() * DAY)
        try:
            with listening(Stopping(stop or 10**6)):
                collect(cache.root, Limits(max_size=limit), now=time.time() + hours * 3600)
        except StoppedError:
            pass
        assert cache.dangling() == []
        dropped = 6 - len(cache.known())
        assert ground.build(actions) == first
        assert len(ground.executor.ran) <= dropped
