"""``verify``: whatever is damaged in a cache is found, removed and made again; nothing else is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.action import Action, Output, SourceFile
from flatpack_build.digest import ActionKey, Digest
from flatpack_build.errors import StoreError
from flatpack_build.events import listening
from flatpack_build.runner import Runner
from flatpack_build.store.audit import audit
from flatpack_build.store.inventory import take_inventory
from flatpack_build.store.local import Scratch
from flatpack_build.store.statistics import take_statistics
from tests.computing import Computing, Ground, step, write
from tests.heard import Heard
from tests.store.filling import LATER, Cache, fetch, flip_a_bit


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    cache.put("run:a", {"one": b"one" * 100, "two": b"two" * 100})
    cache.put("run:b", {"two": b"two" * 100, "three": b"three" * 100})
    cache.put_box("pack:a", b"a signed box")
    return cache


def tree_of(cache: Cache, name: str) -> Path:
    for action in take_inventory(cache.root).actions:
        if action.result is not None and action.result.action == name:
            return cache.root / "blobs" / action.result.tree[:2] / action.result.tree
    raise AssertionError(name)


def cut(file: Path) -> None:
    os.chmod(file, 0o644)
    os.truncate(file, 10)
    os.chmod(file, 0o444)


def empty(file: Path) -> None:
    os.chmod(file, 0o644)
    os.truncate(file, 0)
    os.chmod(file, 0o444)


def test_a_whole_cache_is_whole(cache: Cache) -> None:
    before = {path: path.stat().st_ctime_ns for path in cache.root.rglob("*")}
    found = audit(cache.root, jobs=2)
    assert found.findings == ()
    assert (found.blobs, found.actions) == (6, 3)
    assert found.size == sum(blob.size for blob in take_inventory(cache.root).blobs.values())
    assert {path: path.stat().st_ctime_ns for path in cache.root.rglob("*")} == before


@pytest.mark.parametrize(
    ("damage", "kind", "detail"),
    [
        (flip_a_bit, "damaged blob", "another sha256"),
        (cut, "cut blob", "10 of 300 bytes are left"),
        (empty, "cut blob", "0 of 300 bytes are left"),
    ],
)
def test_a_bad_blob_goes_and_nothing_else(cache: Cache, damage: Callable[[Path], None], kind: str, detail: str) -> None:
    damage(cache.blob(b"one" * 100))
    (found,) = audit(cache.root, jobs=1).findings
    assert (found.kind, found.name, found.done) == (kind, Digest.of_bytes(b"one" * 100), "removed")
    assert detail in found.detail
    assert not cache.blob(b"one" * 100).exists()
    assert len(take_inventory(cache.root).blobs) == 5
    assert len(cache.known()) == 3  # the entry stays: what it lacks is made again when somebody needs it
    assert audit(cache.root, jobs=1).findings == ()


def test_a_bad_tree_takes_its_entry_along(cache: Cache) -> None:
    flip_a_bit(tree_of(cache, "run:a"))
    kinds = [finding.kind for finding in audit(cache.root, jobs=2).findings]
    assert kinds == ["damaged blob", "lost output"]
    assert len(cache.known()) == 2


def test_a_bad_box_takes_its_entry_along(cache: Cache) -> None:
    cut(cache.blob(b"a signed box"))
    found = audit(cache.root, jobs=2).findings
    assert [(finding.kind, finding.detail) for finding in found] == [
        ("cut blob", "10 of 12 bytes are left"),
        ("lost output", "what pack:a made is gone"),
    ]


def test_a_tree_that_is_missing_takes_its_entry_along(cache: Cache) -> None:
    tree_of(cache, "run:b").unlink()
    (found,) = audit(cache.root, jobs=2).findings
    assert (found.kind, found.detail) == ("lost output", "what run:b made is gone")
    assert len(cache.known()) == 2


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o555, 0o000, 0o400])
def test_permissions_are_mended(cache: Cache, mode: int) -> None:
    os.chmod(cache.blob(b"one" * 100), mode)
    (found,) = audit(cache.root, jobs=2).findings
    assert (found.kind, found.done, found.detail) == ("permissions", "mended", f"{mode:03o} instead of 444")
    assert cache.blob(b"one" * 100).stat().st_mode & 0o777 == 0o444
    assert audit(cache.root, jobs=2).findings == ()


def test_a_damaged_blob_of_wrong_permissions_is_damaged(cache: Cache) -> None:
    cache.blob(b"one" * 100).chmod(0o644)
    cache.blob(b"one" * 100).write_bytes(b"other")
    assert [finding.kind for finding in audit(cache.root, jobs=2).findings] == ["cut blob"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"step"', b'"stop"'),  # no entry at all
        (b'command","run:a"', b'command","run:c"'),  # parts that give another key
        (b'"size":600', b'"size":601'),
        (b'"tree":"', b'"tree":"x'),
        (b"{", b""),
    ],
)
def test_a_damaged_entry_goes(cache: Cache, old: bytes, new: bytes) -> None:
    (key,) = (action.key for action in take_inventory(cache.root).actions if action.result.action == "run:a")  # type: ignore[union-attr]
    data = cache.entry(key).read_bytes()
    assert old in data, data
    cache.entry(key).write_bytes(data.replace(old, new, 1))
    (found,) = audit(cache.root, jobs=2).findings
    assert (found.kind, found.name) == ("damaged entry", key)
    assert key not in cache.known()


def test_an_entry_whose_key_is_not_made_of_parts_is_good(cache: Cache) -> None:
    """As for the documents that stand beside a box."""
    for action in take_inventory(cache.root).actions:
        if action.result is not None and action.result.action == "run:a":
            key = ActionKey("c" * 64)
            cache.actions.put(replace(action.result, key=key, step="companions", parts=()))
    assert len(cache.known()) == 4
    assert audit(cache.root, jobs=2).findings == ()


def test_an_entry_under_the_name_of_another_goes(cache: Cache) -> None:
    one, two = sorted(action.key for action in take_inventory(cache.root).actions)[:2]
    cache.entry(one).write_bytes(cache.entry(two).read_bytes())
    assert [finding.name for finding in audit(cache.root, jobs=2).findings] == [one]


def test_a_cache_that_does_not_exist_is_whole(tmp_path: Path) -> None:
    assert audit(tmp_path / "none", jobs=2).findings == ()
    assert not (tmp_path / "none").exists()


def test_a_cache_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(StoreError, match="cannot look in the cache folder"):
        audit(tmp_path / "cache", jobs=2)


def test_progress_is_told_in_bytes(cache: Cache) -> None:
    heard = Heard()
    with listening(heard):
        found = audit(cache.root, jobs=2)
    assert len(heard.steps) == 6
    assert heard.steps[-1] == (found.size, found.size, "bytes")


# --- builds heal


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def blobs(ground: Ground) -> list[Path]:
    return sorted(path for path in (ground.root / "cache/blobs").rglob("*") if path.is_file())


def actions_of(ground: Ground) -> list[Action]:
    """Two that read a file of the user's; one reads a file of the first, the last one whole trees of all."""
    write(ground, "source", "model")
    source = SourceFile(str(ground.user / "source"))
    return [
        step("verify", source=source),
        step("compress", model=Output("verify", "result")),
        step("index", upper=True, source=source),
        step("pack", compress=Output("compress"), index=Output("index"), verify=Output("verify", "result")),
    ]


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("by", ["verify", "environment"])
def test_a_flipped_bit_anywhere_is_healed_by_the_next_build(ground: Ground, by: str, number: int) -> None:
    actions = actions_of(ground)
    first = ground.build(actions)
    assert len(blobs(ground)) == 9  # four files, four trees, and the user's file
    blob = blobs(ground)[number]
    whole = blob.read_bytes()
    flip_a_bit(blob)
    verify = by == "environment"  # FLATPACK_VERIFY_CACHE: no more than what is read gets checked
    if not verify:
        assert [finding.name for finding in audit(ground.root / "cache", jobs=2).findings][:1] == [blob.name]
    # A change after the damage reads what it depends on; both must come out as if nothing had happened.
    changed = [*actions[:-1], step("pack", "packed", **actions[-1].inputs)]  # type: ignore[arg-type]
    assert ground.build(changed, verify=verify)["pack"] == first["pack"].replace("pack", "packed", 1)
    texts = ground.build(actions, verify=verify)
    assert {name: text for name, text in first.items() if name in texts} == texts
    assert verify or not blob.exists() or blob.read_bytes() == whole


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_tree_is_healed_even_where_nobody_verifies(ground: Ground, number: int) -> None:
    actions = actions_of(ground)
    first = ground.build(actions)
    tree = [blob for blob in blobs(ground) if blob.read_bytes().startswith(b"[[")][number]
    flip_a_bit(tree)
    assert ground.build(actions) == first
    assert len(ground.executor.ran) == 1


def test_a_result_with_a_damaged_tree_is_not_complete(cache: Cache) -> None:
    (result,) = (
        action.result
        for action in take_inventory(cache.root).actions
        if action.result and action.result.action == "run:a"
    )
    runner = Runner(cache.store, cache.actions, Computing(), Scratch(cache.root))
    assert runner.complete(result)
    flip_a_bit(tree_of(cache, "run:a"))
    assert not runner.complete(result)


@settings(max_examples=40, deadline=None)
@given(flips=st.sets(st.integers(0, 8), max_size=4), cuts=st.sets(st.integers(0, 8), max_size=4))
def test_any_damage_is_healed(tmp_path_factory: pytest.TempPathFactory, flips: set[int], cuts: set[int]) -> None:
    ground = Ground(tmp_path_factory.mktemp("ground"))
    actions = actions_of(ground)
    first = ground.build(actions)
    files = blobs(ground)
    for number in cuts:
        empty(files[number])
    for number in flips - cuts:
        flip_a_bit(files[number])
    found = audit(ground.root / "cache", jobs=2)
    assert len({finding.name for finding in found.findings if "blob" in finding.kind}) == len(flips | cuts)
    forced = tuple(action.name for action in actions)
    assert ground.build(actions, forced=forced) == first
    assert audit(ground.root / "cache", jobs=2).findings == ()


# --- numbers


def test_statistics(cache: Cache) -> None:
    cache.put("fetch:a", {"file": b"f" * 1000}, params=fetch("https://example.org/a", b"f" * 1000), age=40 * 86400)
    cache.store.add_bytes(b"nobody's")
    (cache.root / "tmp/1-a").mkdir(parents=True)
    (cache.root / "tmp/1-a/half").write_bytes(b"half")
    found = take_statistics(cache.root, now=LATER)
    assert (found.actions, found.blobs, found.unused, found.temporary, found.projects) == (4, 9, 8, 4, 0)
    assert found.size == take_inventory(cache.root).size
    assert {share.name: share.actions for share in found.steps} == {"run": 2, "sign": 1, "fetch": 1}
    runs = next(share for share in found.steps if share.name == "run")
    trees = sum(tree_of(cache, name).stat().st_size for name in ("run:a", "run:b"))
    assert runs.size == 300 + 300 + 500 + trees  # what both made is counted once
    assert [(share.name, share.actions) for share in found.ages if share.actions] == [("today", 3), ("this year", 1)]
    assert [big.size for big in found.biggest[:2]] == [1000, 500]
    assert found.biggest[0].made_by == ("fetch:a",)
    assert found.free
    nothing = take_statistics(cache.root / "none", now=LATER)
    assert (nothing.blobs, nothing.size, nothing.biggest) == (0, 0, ())
    assert nothing.free
