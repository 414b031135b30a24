"""Garbage collection: limits hold, the least recently used goes first, and what nobody needs goes at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flatpack_build.digest import Digest
from flatpack_build.errors import StoreError
from flatpack_build.fingerprint import InputDigest
from flatpack_build.limits import Limits
from flatpack_build.store.gc import collect, preview
from flatpack_build.store.inventory import take_inventory
from flatpack_build.store.local import LocalActionCache, Scratch
from tests.store.filling import DAY, LATER, Cache, big, fill

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
