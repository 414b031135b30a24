"""Folders that cannot be written: the message names them, and nothing that is not needed is asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground
from tests.faults.mounts import need_mounts, remount, small_disk


@pytest.fixture
def obedient() -> tuple[str, ...]:
    """A command that runs another as somebody to whom permissions mean something: not as root with all its powers."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root needs setpriv to give up its powers")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def freeze(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o555)


def thaw(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


@pytest.mark.parametrize("name", ["cache", "project"])
def test_a_folder_that_may_not_be_written_is_named(
    ground: Ground, undisturbed: Undisturbed, obedient: tuple[str, ...], name: str
) -> None:
    folder = {"cache": ground.cache, "project": ground.project}[name]
    freeze(folder)
    said = ground.bad_build(before=obedient)
    print(said)
    assert "Permission denied" in said
    assert f"make {folder if name == 'cache' else 'build'} writable" in said or "make that folder writable" in said
    assert (str(ground.cache) if name == "cache" else "build/record.jsonl") in said
    thaw(folder)
    ground.good_build(before=obedient)
    assert ground.payloads() == undisturbed.payloads
    ground.assert_clean()


@pytest.mark.parametrize("name", ["cache", "project"])
def test_a_disk_that_is_read_only_is_named_and_a_build_of_nothing_needs_no_writing(
    ground: Ground, undisturbed: Undisturbed, tmp_path: Path, name: str
) -> None:
    need_mounts(tmp_path)
    folder = {"cache": ground.cache, "project": ground.project}[name]
    with small_disk(folder, "size=256m"):
        remount(folder, "ro")
        said = ground.bad_build()
        print(said)
        assert "Read-only file system" in said
        assert "writable" in said
        remount(folder, "rw")
        ground.good_build()
        remount(folder, "ro")
        assert "up to date" in ground.good_build()
        remount(folder, "rw")
        assert ground.payloads() == undisturbed.payloads
        ground.assert_clean()


def test_boxes_come_out_of_a_cache_that_is_read_only(ground: Ground, undisturbed: Undisturbed, tmp_path: Path) -> None:
    need_mounts(tmp_path)
    with small_disk(ground.cache, "size=256m"):
        ground.good_build()
        remount(ground.cache, "ro")
        for folder in ("build", "dist"):
            shutil.rmtree(ground.project / folder)
        said = ground.good_build()
        assert "built " not in said
        assert ground.payloads() == undisturbed.payloads
