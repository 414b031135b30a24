"""Small file systems to fill up or to freeze. Needs root; where mounting is not allowed the tests are skipped."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def _mount(*arguments: str) -> str:
    """Empty when it worked, else what was said."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip() or f"mount ended with {done.returncode}"


def need_mounts(folder: Path) -> None:
    """Skip the test where no tmpfs can be mounted."""
    if sys.platform != "linux" or shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs Linux and root")
    probe = folder / "probe"
    probe.mkdir()
    if problem := _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", os.fspath(probe)):
        pytest.skip(f"mounting is not allowed here: {problem}")
    subprocess.run(["umount", os.fspath(probe)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """``folder`` on a tmpfs of its own with these mount options, holding what it held before."""
    before = folder.with_name(f"{folder.name}.before")
    folder.rename(before)
    folder.mkdir()
    assert _mount("-t", "tmpfs", "-o", options, "tmpfs", os.fspath(folder)) == ""
    try:
        shutil.copytree(before, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", os.fspath(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    assert _mount("-o", f"remount,{options}", os.fspath(folder)) == ""
