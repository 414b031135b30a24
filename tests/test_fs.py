"""Files appear whole or not at all, and links never let a writer reach the original."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from flatpack_build.fs import (
    atomic_write,
    copy_file,
    link_or_copy,
    open_to_lock,
    remove_tree,
    replace_with_link,
    walk_files,
)
from tests.faults.mounts import need_mounts, small_disk


def test_atomic_write_replaces_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    atomic_write(target, b"one")
    atomic_write(target, b"two", mode=0o600, durable=True)
    assert target.read_bytes() == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [entry.name for entry in target.parent.iterdir()] == ["file"]


def test_a_failing_atomic_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "inside").write_bytes(b"kept")
    with pytest.raises(OSError):
        atomic_write(target, b"new")
    assert (target / "inside").read_bytes() == b"kept"
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_links_keep_the_permissions_that_were_asked_for(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"bytes")
    os.chmod(blob, 0o444)
    plain = link_or_copy(blob, tmp_path / "plain")
    program = link_or_copy(blob, tmp_path / "program", mode=0o555)
    assert plain in ("hardlink", "reflink")
    assert program in ("copy", "reflink")
    assert stat.S_IMODE((tmp_path / "program").stat().st_mode) == 0o555
    assert stat.S_IMODE(blob.stat().st_mode) == 0o444


def test_a_copy_is_independent(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    copy_file(tmp_path / "a", tmp_path / "b", mode=0o644)
    (tmp_path / "b").write_bytes(b"after")
    assert (tmp_path / "a").read_bytes() == b"before"


def test_replace_with_link_twice_is_the_same_as_once(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"bytes")
    os.chmod(blob, 0o444)
    for _ in range(2):
        replace_with_link(blob, tmp_path / "dist" / "box")
    assert (tmp_path / "dist" / "box").read_bytes() == b"bytes"
    assert [entry.name for entry in (tmp_path / "dist").iterdir()] == ["box"]


def test_walk_is_sorted_and_names_empty_folders(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "e").mkdir()
    assert [path for path, _ in walk_files(tmp_path)] == ["a", "b/1", "b/2", "c/d/3", "e/"]


def test_a_descriptor_to_lock_will_do_for_nfs(tmp_path: Path) -> None:
    """There flock() becomes a POSIX lock, and an exclusive one needs a descriptor for writing."""
    fd = open_to_lock(tmp_path / "lock")
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def test_remove_tree_leaves_what_it_lies_in_alone(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    remove_tree(shared / "gone already")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o775


def test_remove_tree_leaves_what_cannot_be_removed(tmp_path: Path) -> None:
    need_mounts(tmp_path)
    (tmp_path / "top/busy").mkdir(parents=True)
    with small_disk(tmp_path / "top/busy", "size=64k"):
        remove_tree(tmp_path / "top")
        assert [path.name for path in (tmp_path / "top").iterdir()] == ["busy"]


def test_folders_nested_too_deeply_are_refused_and_removed(tmp_path: Path) -> None:
    """Deeper than Python's stack, and than any path may be long."""
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("inner", dir_fd=fd)
        inside = os.open("inner", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inside
    os.close(os.open("file", os.O_CREAT, dir_fd=fd))
    os.close(fd)
    with pytest.raises(OSError, match="nested more than"):
        list(walk_files(top))
    remove_tree(top)
    assert list(tmp_path.iterdir()) == []


def test_remove_tree_is_not_stopped_by_permissions(tmp_path: Path) -> None:
    folder = tmp_path / "locked" / "inner"
    folder.mkdir(parents=True)
    (folder / "file").touch(0o400)
    os.chmod(folder, 0o500)
    os.chmod(folder.parent, 0o500)
    remove_tree(tmp_path / "locked")
    assert not (tmp_path / "locked").exists()
