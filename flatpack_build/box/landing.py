"""A folder that appears whole or not at all, filled by somebody else. Knows no boxes, only folders, locks and renames.

What is being filled lies beside its target, under a lock that dies with its process. What a killed process left is
removed by the next one that wants the same target.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flatpack_build import fs
from flatpack_build.errors import BoxError, Place

SUFFIX: Final = ".unpacking"

_AT_FDCWD = -100
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2  # linux/fs.h
_NEW, _OLD = "new", "old"
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def check_target(target: Path, *, replace: bool) -> None:
    """Raise ``BoxError`` unless ``target`` can become a new folder, or with ``replace`` is a folder to be replaced."""
    place = Place(str(target))
    if not os.path.lexists(target):
        return
    if not replace:
        raise BoxError(
            "the folder to unpack into is there already", place=place, hint="--replace swaps it for the new one"
        )
    if target.is_symlink() or not target.is_dir():
        raise BoxError("what is to be replaced is not a folder", place=place, hint="remove it first")
    if target.is_mount() or not target.name:
        raise BoxError("what is to be replaced is a whole file system", place=place, hint="name a folder in it")


def free_space(folder: Path) -> int:
    """Bytes that can be written below ``folder``, or where it will be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextlib.contextmanager
def landing(target: Path, *, replace: bool = False, durable: bool = True) -> Iterator[Path]:
    """A new, empty folder; what is in it at the end becomes ``target``, with one rename.

    Where ``target`` is there, ``replace`` swaps the two and removes the old one. ``durable`` waits for the disk before.
    After an error everything is as it was. Raises ``BoxError``, ``OSError``.
    """
    target = Path(os.path.abspath(target))
    check_target(target, replace=replace)
    made = _make_parents(target)
    try:
        _sweep(target)
        with _locked_folder(target) as temporary:
            new = temporary / _NEW
            new.mkdir()
            new.chmod(0o755)
            yield new
            if durable:
                _flush(new)
            _put(new, target, temporary / _OLD, replace=replace)
            if durable:
                fs.fsync_folder(target.parent)
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # somebody else may have put something there by now
                folder.rmdir()
        raise


def _make_parents(target: Path) -> list[Path]:
    """The folders above ``target`` that had to be made, innermost first."""
    missing = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    return missing


@contextlib.contextmanager
def _locked_folder(target: Path) -> Iterator[Path]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent))
        fd = _lock(folder, wait=True)
        # Whoever sweeps may have come between the two lines above and taken it for an orphan.
        if folder.exists():
            break
        _unlock(fd)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # what cannot be removed now is swept up later
            fs.remove_tree(folder)
        _unlock(fd)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock on ``folder``; ``None`` where it cannot be had, or has gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(fd)
        return None
    return fd


def _unlock(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)


def _sweep(target: Path) -> None:
    """Remove what killed processes left of ``target``; put back a target that one of them had taken away."""
    ours = re.compile(re.escape(f".{target.name}.") + "[a-z0-9_]{8}" + re.escape(SUFFIX))
    with os.scandir(target.parent) as listing:
        found = [Path(entry.path) for entry in listing if ours.fullmatch(entry.name)]
    for folder in found:
        fd = _lock(folder, wait=False)
        if fd is None:
            continue  # somebody is at work in it, or has just finished
        # In a folder that everybody may write to, others could lay out something for us to put in place.
        if os.fstat(fd).st_uid == os.geteuid():
            with contextlib.suppress(OSError):
                if (folder / _OLD).is_dir() and not os.path.lexists(target):
                    (folder / _OLD).rename(target)
                fs.remove_tree(folder)
        os.close(fd)


def _put(new: Path, target: Path, old: Path, *, replace: bool) -> None:
    if not os.path.lexists(target):
        if not _rename_in_one(new, target, _RENAME_NOREPLACE):
            new.rename(target)
        return
    check_target(target, replace=replace)
    if _rename_in_one(new, target, _RENAME_EXCHANGE):
        return
    # A kill between these two lines leaves ``old``, which the next sweep puts back.
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise


def _rename_in_one(new: Path, target: Path, flag: int) -> bool:
    """renameat2(), which takes away no folder and swaps two without a gap; ``False`` where there is no such thing."""
    if sys.platform != "linux":
        return False
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    if function(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    error = ctypes.get_errno()
    if error in _UNSUPPORTED:
        return False
    raise OSError(error, os.strerror(error), os.fspath(target))


def _flush(folder: Path) -> None:
    """Have the disk hold all that was written: in one go, since thousands of single fsyncs take minutes on a card."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        os.sync()
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if function(fd) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), os.fspath(folder))
    finally:
        os.close(fd)
