"""Garbage collection: limits hold, the least recently used goes first, what is needed stays, a kill harms nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.action import Action, Output, SourceFile
from flatpack_build.digest import ActionKey, Digest
from flatpack_build.errors import StoreError
from flatpack_build.events import listening
from flatpack_build.fingerprint import InputDigest
from flatpack_build.limits import Limits
from flatpack_build.manifest.lock import Lock, LockedSource, LockedWheel, LockedWheels, write_lock
from flatpack_build.project import Project, Settings
from flatpack_build.stamps import Stamp, Stamps
from flatpack_build.store.gc import collect, collect_if_free, preview
from flatpack_build.store.inventory import take_inventory
from flatpack_build.store.local import LocalActionCache, Scratch
from flatpack_build.store.projects import register, registered
from flatpack_build.store.use import CacheUse, have_alone, is_due
from tests.store.filling import LATER, Cache, fetch
from tests.test_builder import Ground, step, write

DAY = 86400.0


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def big(number: int) -> bytes:
    """100 kB that no other number gives."""
    return f"{number:010}".encode() * 10_000


def fill(cache: Cache, count: int = 6) -> list[ActionKey]:
    """Actions of 100 kB each, the oldest first, a day between them."""
    return [cache.put(f"n{number}", {"out": big(number)}, age=(count - number) * DAY) for number in range(count)]


# --- limits


def test_without_limits_only_the_useless_goes(cache: Cache) -> None:
    keys = fill(cache)
    cache.store.add_bytes(b"nobody's")
    done = collect(cache.root, Limits(), now=LATER)
    assert cache.known() == set(keys)
    assert [blob.digest for blob in done.blobs] == [Digest.of_bytes(b"nobody's")]
    assert cache.dangling() == []


@pytest.mark.parametrize("limit", [0, 1, 99_000, 250_000, 333_333, 10**9])
def test_the_size_holds_and_the_least_recently_used_goes_first(cache: Cache, limit: int) -> None:
    keys = fill(cache)
    done = collect(cache.root, Limits(max_size=limit), now=LATER)
    size = take_inventory(cache.root).size
    assert size == done.size_after <= limit
    assert done.over == 0
    left = cache.known()
    assert left == set(keys[len(keys) - len(left) :])
    assert size + 110_000 > limit or left == set(keys)  # no more than needed
    assert cache.dangling() == []


def test_the_age_holds(cache: Cache) -> None:
    keys = fill(cache)
    collect(cache.root, Limits(max_age=2.5 * DAY), now=LATER)
    assert cache.known() == set(keys[-2:])


def test_a_hit_makes_an_action_young_again(cache: Cache) -> None:
    keys = fill(cache)
    LocalActionCache(cache.root, clock=lambda: LATER).get(keys[0])
    collect(cache.root, Limits(max_size=250_000), now=LATER)
    assert cache.known() == {keys[0], keys[-1]}


def test_a_clock_that_jumped_back_keeps_nothing_for_ever(cache: Cache) -> None:
    (key,) = fill(cache, 1)
    cache.used(key, -365 * DAY)
    assert LocalActionCache(cache.root, clock=lambda: LATER).get(key) is not None
    collect(cache.root, Limits(max_age=DAY), now=LATER + 2 * DAY)
    assert cache.known() == set()


def test_what_two_actions_share_stays_until_both_are_gone(cache: Cache) -> None:
    old = cache.put("old", {"out": big(1)}, age=2 * DAY)
    new = cache.put("new", {"copy": big(1)}, age=DAY)
    assert old in {action.key for action in collect(cache.root, Limits(max_age=1.5 * DAY), now=LATER).actions}
    assert cache.known() == {new}
    assert cache.blob(big(1)).exists()
    assert cache.dangling() == []
    collect(cache.root, Limits(max_age=DAY / 2), now=LATER)
    assert not cache.blob(big(1)).exists()


def test_a_signed_box_is_kept_and_dropped_as_one(cache: Cache) -> None:
    cache.put_box("box", big(1), age=DAY)
    collect(cache.root, Limits(max_age=2 * DAY), now=LATER)
    assert cache.blob(big(1)).exists()
    collect(cache.root, Limits(max_age=DAY / 2), now=LATER)
    assert not cache.blob(big(1)).exists()


def test_small_inputs_stay_with_what_was_made_from_them_and_large_ones_do_not(cache: Cache) -> None:
    inputs = {}
    for name, data in (("small", b"text"), ("large", big(7))):
        inputs[name] = InputDigest("file", cache.store.add_bytes(data), len(data))
    key = cache.put("n", {"out": b"out"}, inputs=inputs)
    collect(cache.root, Limits(), now=LATER)
    assert cache.blob(b"text").exists()
    assert not cache.blob(big(7)).exists()
    cache.used(key, DAY)
    collect(cache.root, Limits(max_age=60), now=LATER)
    assert not cache.blob(b"text").exists()


# --- what nobody needs


def test_entries_of_no_use_go(cache: Cache) -> None:
    keys = fill(cache, 3)
    cache.entry(keys[0]).write_bytes(b"{half")
    result = cache.actions.get(keys[1])
    assert result is not None
    tree = cache.root / "blobs" / result.tree[:2] / result.tree
    os.chmod(tree, 0o644)
    tree.write_bytes(b"[]")
    collect(cache.root, Limits(), now=LATER)
    assert cache.known() == {keys[2]}


def test_what_is_new_may_belong_to_a_build_of_another_version(cache: Cache) -> None:
    cache.store.add_bytes(big(1))
    half = cache.blob(big(1)).with_name(".half.tmp")
    half.write_bytes(b"half")
    now = time.time()
    done = collect(cache.root, Limits(max_size=0), now=now)
    assert cache.blob(big(1)).exists()
    assert half.exists()
    assert done.young == done.over == 100_004
    for minutes, there in ((59, True), (61, False)):
        collect(cache.root, Limits(), now=now + minutes * 60)
        assert cache.blob(big(1)).exists() == half.exists() == there


def test_new_garbage_pushes_nothing_useful_out(cache: Cache) -> None:
    keys = fill(cache, 2)
    cache.store.add_bytes(big(77))
    done = collect(cache.root, Limits(max_size=250_000), now=time.time())
    assert cache.known() == set(keys)
    assert 0 < done.over <= done.young


def test_what_the_dead_left_goes_and_what_the_living_use_stays(cache: Cache) -> None:
    fill(cache, 1)
    alive = Scratch(cache.root)
    (alive.folder / "mine").write_text("mine")
    dead = cache.root / "tmp/999-dead"
    dead.mkdir()
    dead.with_name("999-dead.lock").touch()
    lost = cache.root / "tmp/lost"  # without the lock that said whose it was
    lost.mkdir()
    (cache.root / "locks").mkdir()
    (cache.root / "locks" / ("a" * 64)).touch()
    collect(cache.root, Limits(), now=LATER)
    assert (alive.folder / "mine").exists()
    assert sorted(path.name for path in (cache.root / "tmp").iterdir()) == [
        alive.folder.name, f"{alive.folder.name}.lock",
    ]  # fmt: skip
    assert list((cache.root / "locks").iterdir()) == []
    alive.close()


def test_a_dry_run_says_the_same_and_removes_nothing(cache: Cache) -> None:
    fill(cache)
    before = set(cache.root.rglob("*"))
    said = preview(cache.root, Limits(max_size=250_000), now=LATER)
    assert set(cache.root.rglob("*")) == before
    assert collect(cache.root, Limits(max_size=250_000), now=LATER) == said
    assert len(said.actions) == 4


def test_a_cache_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    done = collect(tmp_path / "none", Limits(max_size=0), now=LATER)
    assert (done.actions, done.blobs, done.size_before, done.size_after) == ((), (), 0, 0)
    assert not (tmp_path / "none").exists()


def test_what_is_no_part_of_a_cache_is_left_alone(cache: Cache) -> None:
    fill(cache, 1)
    strangers = [
        cache.root / "README",
        cache.root / "blobs/.DS_Store",
        cache.root / "blobs/ab/notes",
        cache.root / "x/y",
    ]
    for stranger in strangers:
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.write_text("mine")
    collect(cache.root, Limits(max_size=0), now=LATER)
    assert all(stranger.exists() for stranger in strangers)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_a_cache_that_may_not_be_changed_is_said(cache: Cache) -> None:
    (key,) = fill(cache, 1)
    os.chmod(cache.entry(key).parent, 0o555)
    with pytest.raises(StoreError, match="cannot remove"):
        collect(cache.root, Limits(max_size=0), now=LATER)
    os.chmod(cache.entry(key).parent, 0o755)


# --- locks of projects


def project_of(cache: Cache, root: Path) -> Project:
    return Project(root, Settings(cache=str(cache.root)))


def lock_in(project: Path, sources: list[LockedSource], wheels: tuple[LockedWheels, ...] = ()) -> Path:
    file = project / "warehouse/chat/flatpack.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_lock(file, Lock({source.source: source for source in sources}, wheels))
    return file


def locked(url: str, data: bytes) -> LockedSource:
    return LockedSource(url, fetch(url, data).files, {}, len(data))


def test_locked_sources_survive_every_limit(cache: Cache, tmp_path: Path) -> None:
    url = "https://example.org/model.gguf"
    wheels = LockedWheels("linux", "3.11", ("a",), (LockedWheel("a", "1", "a-1.whl", Digest.of_bytes(b"wheel")),))
    needed = cache.put("fetch:chat", {"file": big(1)}, params=fetch(url, big(1)), age=365 * DAY)
    needed_too = cache.put("fetch:chat/wheels", {"a-1.whl": b"wheel"}, params=wheels.params(), age=365 * DAY)
    old = cache.put("fetch:old", {"file": big(2)}, params=fetch(url, big(2)))
    fill(cache)
    project = tmp_path / "project"
    lock_in(project, [locked(url, big(1)), LockedSource("file:m.gguf", {"m.gguf": Digest("a" * 64)}, {}, 1)], (wheels,))
    register(project_of(cache, project))
    done = collect(cache.root, Limits(max_size=1000, max_age=60), now=LATER)
    assert cache.known() == {needed, needed_too}
    assert old in {action.key for action in done.actions}
    assert done.locked >= 100_005
    assert done.over == done.size_after - 1000 > 0
    assert cache.dangling() == []
    (project / "warehouse/chat/flatpack.lock").unlink()
    collect(cache.root, Limits(max_size=0), now=LATER)
    assert cache.known() == set()


def test_a_project_that_is_gone_protects_nothing(cache: Cache, tmp_path: Path) -> None:
    url = "https://example.org/a"
    cache.put("fetch:a", {"file": big(1)}, params=fetch(url, big(1)))
    project = tmp_path / "project"
    file = lock_in(project, [locked(url, big(1))])
    for _ in range(2):
        register(project_of(cache, project))
    assert len(list(registered(cache.root))) == 1
    file.unlink()
    file.parent.rmdir()
    (project / "warehouse").rmdir()
    preview(cache.root, Limits(max_size=0), now=LATER)
    project.rmdir()
    assert len(preview(cache.root, Limits(max_size=0), now=LATER).gone) == 1
    assert len(list(registered(cache.root))) == 1
    collect(cache.root, Limits(max_size=0), now=LATER)
    assert list(registered(cache.root)) == []
    assert cache.known() == set()


def test_a_lock_that_cannot_be_read_keeps_every_fetched_source(cache: Cache, tmp_path: Path) -> None:
    fetched = cache.put("fetch:a", {"file": big(1)}, params=fetch("https://example.org/a", big(1)), age=DAY)
    cache.put("run:a", {"out": big(2)})
    project = tmp_path / "project"
    lock_in(project, []).write_text("<<<<<<< HEAD\nversion = 1\n")
    register(project_of(cache, project))
    done = collect(cache.root, Limits(max_size=0), now=LATER)
    assert cache.known() == {fetched}
    assert len(done.unreadable) == 1
    assert "flatpack.lock" in done.unreadable[0]


def test_a_damaged_registration_is_written_again(cache: Cache, tmp_path: Path) -> None:
    register(project_of(cache, tmp_path))
    (known,) = registered(cache.root)
    known.file.write_bytes(b"")
    assert list(registered(cache.root)) == []
    register(project_of(cache, tmp_path))
    assert list(registered(cache.root)) == [known]


def test_what_a_fresh_stamp_spares_a_look_at_is_in_use(cache: Cache, tmp_path: Path) -> None:
    """A build with nothing to do asks for no key. What it relies on must not look forgotten."""
    keys = fill(cache)
    project = project_of(cache, tmp_path / "project")
    register(project)
    stamps = Stamps(str(project.stamps), "here")
    stamps.put("x", {}, {}, Stamp((), 1), whole=True, keys=[keys[0], "gone" * 16])
    file = project.stamps / "x.json"
    for before, after in ((LATER - 9 * DAY, None), (time.time() - 1800, time.time() - 1800)):
        os.utime(file, (before, before))
        assert stamps.fresh("x") is not None
        assert abs(file.stat().st_mtime - (after or time.time())) < 60
    (project.stamps / "damaged.json").write_bytes(b"\xff")
    (project.stamps / "old.json").write_text("{}")
    project.root.mkdir(exist_ok=True)
    said = preview(cache.root, Limits(max_size=250_000), now=LATER)
    assert [action.key for action in said.actions] == keys[1:5]
    os.utime(file, (LATER - 9 * DAY, LATER - 9 * DAY))
    assert [action.key for action in preview(cache.root, Limits(max_size=250_000), now=LATER).actions] == keys[:4]


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
    links=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12),
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
    actions: list[Action] = []
    for number in range(6):
        needs = {f"from{low}": Output(f"n{low}", "result") for high, low in links if high == number and low < number}
        source = SourceFile(str(ground.user / str(number % 3)))
        actions.append(step(f"n{number}", upper=number % 2 == 0, source=source, **needs))  # type: ignore[arg-type]  # the other keywords are fixed above
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
