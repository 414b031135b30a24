"""What every store and action cache must do."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatpack_build.digest import ActionKey, Digest
from flatpack_build.errors import StepError, StoreError
from flatpack_build.store.folders import lay_out, load_tree, missing, take_folder
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from flatpack_build.store.locks import Lock, try_lock
from flatpack_build.store.protocol import ActionResult

KEY = ActionKey("a" * 64)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "cache")


def result(key: ActionKey = KEY) -> ActionResult:
    return ActionResult(key, "pack:x@y", "pack", Digest("b" * 64), 3, 1.5, 7, ("a note",), (("step", "pack"),))


def test_a_blob_comes_back_read_only(store: LocalStore) -> None:
    digest = store.add_bytes(b"hello")
    assert store.path(digest).read_bytes() == b"hello"
    assert stat.S_IMODE(store.path(digest).stat().st_mode) == 0o444
    assert store.contains(digest, 5)
    assert not store.contains(digest, 6)


def test_a_moved_file_is_gone_and_a_copied_one_is_not(store: LocalStore, tmp_path: Path) -> None:
    for name, move in (("one", True), ("two", False)):
        (tmp_path / name).write_text(name)
        store.add_file(tmp_path / name, move=move)
    assert not (tmp_path / "one").exists()
    assert (tmp_path / "two").exists()


def test_a_file_with_a_second_name_cannot_reach_the_blob(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("safe")
    os.link(tmp_path / "one", tmp_path / "other")
    digest = store.add_file(tmp_path / "one", move=True)
    (tmp_path / "other").write_text("changed")
    assert store.path(digest).read_text() == "safe"


def test_an_absent_blob_is_an_error_with_a_hint(store: LocalStore) -> None:
    with pytest.raises(StoreError, match="is not in the cache"):
        store.path(Digest("c" * 64))


def test_verify_on_read_finds_and_removes_a_flipped_bit(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache", verify=True)
    digest = store.add_bytes(b"hello")
    blob = store.path(digest)
    os.chmod(blob, 0o644)
    blob.write_bytes(b"hellp")
    with pytest.raises(StoreError, match="damaged"):
        store.path(digest)
    assert not store.contains(digest)
    assert store.add_bytes(b"hello") == digest
    assert store.path(digest).read_bytes() == b"hello"


def test_a_blob_cut_short_is_not_there_and_is_replaced(store: LocalStore) -> None:
    digest = store.add_bytes(b"hello")
    blob = store.path(digest)
    os.chmod(blob, 0o644)
    blob.write_bytes(b"")
    assert not store.contains(digest, 5)
    store.add_bytes(b"hello")
    assert store.path(digest).read_bytes() == b"hello"


def test_folders_survive_the_round_trip(store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "bin").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "bin/tool").write_text("#!/bin/sh\n")
    os.chmod(folder / "bin/tool", 0o755)
    (folder / "data").write_text("data")
    tree = take_folder(store, folder)
    assert load_tree(store, tree.digest) == tree
    assert [(entry.path, entry.kind) for entry in tree.entries] == [
        ("bin/tool", "exec"), ("data", "file"), ("empty", "dir"),
    ]  # fmt: skip
    laid = tmp_path / "laid"
    lay_out(store, tree, laid)
    assert os.access(laid / "bin/tool", os.X_OK)
    assert (laid / "data").read_text() == "data"
    assert (laid / "empty").is_dir()
    assert not missing(store, tree)


def test_a_link_in_an_output_is_refused(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to("/etc/passwd")
    with pytest.raises(StepError, match="not a regular file"):
        take_folder(store, tmp_path / "out")


def test_an_action_result_comes_back(tmp_path: Path) -> None:
    cache = LocalActionCache(tmp_path)
    assert cache.get(KEY) is None
    cache.put(result())
    assert cache.get(KEY) == result()


def test_a_hit_notes_the_time_at_most_once_an_hour(tmp_path: Path) -> None:
    now = 1_000_000_000.0
    cache = LocalActionCache(tmp_path, clock=lambda: now)
    cache.put(result())
    entry = tmp_path / "actions/aa" / KEY
    for before, after in ((now - 3599, now - 3599), (now - 3601, now), (now + 3600, now)):
        os.utime(entry, (before, before))
        assert cache.get(KEY) == result()
        assert entry.stat().st_mtime == after
        assert cache.get(KEY) == result()


def test_a_store_that_verifies_holds_nothing_damaged(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "cache", verify=True)
    good, bad = store.add_bytes(b"good"), store.add_bytes(b"hello")
    assert store.contains(bad, 5)
    blob = store.path(bad)
    os.chmod(blob, 0o644)
    blob.write_bytes(b"hellp")
    assert not store.contains(bad, 5)
    assert not blob.exists()
    assert store.contains(good)


def test_a_damaged_tree_is_found_without_asking_and_is_gone(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("a")
    tree = take_folder(store, tmp_path / "out")
    blob = store.path(tree.digest)
    os.chmod(blob, 0o644)
    blob.write_bytes(blob.read_bytes().replace(b'"a"', b'"b"'))  # still a tree, but of another file name
    with pytest.raises(StoreError, match="damaged"):
        load_tree(store, tree.digest)
    assert not store.contains(tree.digest)


@given(data=st.binary(max_size=200))
def test_a_damaged_entry_is_no_entry(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = tmp_path_factory.mktemp("cache")
    cache = LocalActionCache(root)
    cache.put(result())
    (root / "actions/aa" / KEY).write_bytes(data)
    assert cache.get(KEY) is None
    cache.put(result())
    assert cache.get(KEY) == result()


def test_a_full_or_forbidden_place_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="cannot store a blob") as caught:
        LocalStore(tmp_path / "cache").add_bytes(b"x")
    assert "FLATPACK_CACHE" in caught.value.hint


def _hold(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    Lock(path).acquire()
    ready.set()
    multiprocessing.Event().wait(60)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", ready))
    holder.start()
    assert ready.wait(30)
    assert try_lock(tmp_path / "lock") is None
    holder.kill()
    holder.join()
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    lock.release(remove=True)


def test_shared_locks_go_together_and_keep_an_exclusive_one_out(tmp_path: Path) -> None:
    one, two = Lock(tmp_path / "lock", shared=True), Lock(tmp_path / "lock", shared=True)
    assert one.acquire(wait=False)
    assert two.acquire(wait=False)
    assert try_lock(tmp_path / "lock") is None
    one.release()
    assert try_lock(tmp_path / "lock") is None
    two.release()
    alone = try_lock(tmp_path / "lock")
    assert alone is not None
    assert not one.acquire(wait=False)


def test_scratch_sweeps_what_the_dead_left_and_only_that(tmp_path: Path) -> None:
    alive = Scratch(tmp_path)
    assert alive.folder.is_dir()
    dead = tmp_path / "tmp" / "999-dead"
    dead.mkdir()
    (dead / "half").write_text("half")
    dead.with_suffix(".lock").touch()
    other = Scratch(tmp_path)
    assert other.folder.is_dir()
    assert alive.folder.is_dir()
    assert not dead.exists()
    other.close()
    alive.close()
    assert list((tmp_path / "tmp").iterdir()) == []
