"""Files that appear whole or not at all, links instead of copies, sorted tree walks. Knows nothing of stores."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DEEPEST: Final = 200
"""Levels of folders that are gone into."""
_FICLONE = 0x40049409  # linux/fs.h: share the data blocks of another file, copied on write


def fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_is_full(folder: Path) -> bool:
    """Whether the disk that ``folder`` lies on has next to nothing left, in bytes (less than 1 MiB) or in files."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 1 << 20 or (status.f_files > 0 and status.f_favail == 0)


def remedy(error: OSError, folder: Path) -> str:
    """What to do when something in ``folder`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space on the disk of {folder}; nothing that was built so far is lost"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"make {folder} writable; nothing that was built so far is lost"
    return f"check the disk of {folder}"


def open_to_lock(path: Path, *, create: bool = True, mode: int = 0o644) -> int:
    """A descriptor of ``path`` to take a lock on. Raises ``OSError``.

    It is for writing where that is allowed: NFS gives an exclusive lock on no other.
    """
    flags = os.O_CLOEXEC | (os.O_CREAT if create else 0)
    try:
        return os.open(path, os.O_RDWR | flags, mode)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return os.open(path, os.O_RDONLY | flags, mode)  # somebody else's file, or one that a killed writer left


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Have the file ``path`` for oneself; it is gone afterwards, unless it was renamed.

    Its name is always the same, so that whoever writes next takes over what a killed writer left. The lock dies with
    its process.
    """
    while True:
        fd = open_to_lock(path, mode=0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_named(fd, path):  # else who held it before has renamed or removed it, and nobody can find this one
                try:
                    yield
                finally:
                    if _is_named(fd, path):
                        os.unlink(path)
                return
        finally:
            os.close(fd)


def _is_named(fd: int, path: Path) -> bool:
    """Whether ``path`` is the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _short(name: str) -> str:
    """A name that leaves room for what is put around it (file systems take 255 bytes)."""
    return name if len(os.fsencode(name)) <= 240 else hashlib.sha256(os.fsencode(name)).hexdigest()


def atomic_write(
    path: Path, data: bytes, *, mode: int = 0o644, durable: bool = False, scratch: Path | None = None
) -> None:
    """Write ``path`` whole or not at all: to a temporary name beside it, or in ``scratch``, then renamed.

    ``durable`` also waits for the disk; without it a power cut may lose the file, never halve it into place
    where the file system orders a rename after its data (ext4, xfs, btrfs, apfs do).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        folder = scratch
    temporary = folder / f".{_short(path.name)}.tmp"
    with _claimed(temporary):
        os.chmod(temporary, 0o600)  # a killed writer may have left it read-only
        with open(temporary, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    if durable:
        fsync_folder(path.parent)


def atomic_write_text(path: str, text: str) -> None:
    """``atomic_write`` for a file that can be lost: a failure leaves things as they were, and is let go."""
    with contextlib.suppress(OSError):
        atomic_write(Path(path), text.encode())


def _reflink(source: Path, destination: Path) -> bool:
    if sys.platform != "linux":
        return False
    with open(source, "rb") as src, open(destination, "xb") as dst:
        try:
            fcntl.ioctl(dst.fileno(), _FICLONE, src.fileno())
        except OSError:
            cloned = False
        else:
            cloned = True
    if not cloned:
        os.unlink(destination)
    return cloned


def copy_file(source: Path, destination: Path, *, mode: int) -> None:
    """An independent file with the same bytes: sharing blocks where the file system can, else copied.

    Raises ``OSError``; ``destination`` must not exist.
    """
    if not _reflink(source, destination):
        shutil.copyfile(source, destination)
    os.chmod(destination, mode)


def link_or_copy(source: Path, destination: Path, *, mode: int = 0o444) -> str:
    """Make ``destination`` hold the bytes of ``source`` as cheaply as can be; say how: reflink, hardlink or copy.

    A hard link shares its permissions with ``source``, so it is taken only where these already are ``mode``.
    Raises ``OSError``; ``destination`` must not exist.
    """
    if _reflink(source, destination):
        os.chmod(destination, mode)
        return "reflink"
    if stat.S_IMODE(source.stat().st_mode) == mode:
        try:
            os.link(source, destination)
        except OSError as error:
            # Another file system, no hard links at all, or too many of them: a copy is as good, only slower.
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
                raise
        else:
            return "hardlink"
    shutil.copyfile(source, destination)
    os.chmod(destination, mode)
    return "copy"


def replace_with_link(source: Path, destination: Path, *, mode: int = 0o444) -> str:
    """``link_or_copy`` over whatever stands at ``destination``, with no moment in which it is missing or half."""
    folder = destination.parent
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # the folder itself: a file for the lock could be left behind
        if stat.S_IMODE(source.stat().st_mode) == mode and destination.exists() and destination.samefile(source):
            return "hardlink"  # rename() between two names of one inode would do nothing and leave both
        new = folder / f".{_short(destination.name)}.new"
        new.unlink(missing_ok=True)  # a killed writer's
        try:
            how = link_or_copy(source, new, mode=mode)
            os.replace(new, destination)
        finally:
            new.unlink(missing_ok=True)
        return how
    finally:
        os.close(fd)


def walk_files(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below ``root`` in sorted order: its path relative to ``root`` with ``/``, and its entry.

    Symbolic links are yielded, never followed. An empty folder is yielded with a ``/`` at its end. Raises ``OSError``,
    also where folders are nested deeper than ``DEEPEST``.
    """

    def visit(folder: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        if prefix.count("/") > DEEPEST:
            raise OSError(errno.ENAMETOOLONG, f"its folders are nested more than {DEEPEST} deep", os.fspath(root))
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                inside = False
                for item in visit(entry.path, name + "/"):
                    inside = True
                    yield item
                if not inside:
                    yield name + "/", entry
            else:
                yield name, entry

    yield from visit(os.fspath(root), "")


def remove_tree(root: Path) -> None:
    """Delete a folder even where its files and folders are read-only. A missing folder is no error.

    What cannot be deleted all the same stays, and is no error either. Nothing outside of ``root`` is touched.
    """
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(root)
        return
    if root.is_dir() and not root.is_symlink():
        _take_apart(os.fspath(root))


def _take_apart(root: str) -> None:
    """Level by level, what lies deeper being moved up first: so no folder is too deep, and each can be opened up."""
    token = secrets.token_hex(4)
    waiting = [root, *_cleared(root)]
    for number in itertools.count():
        folder = waiting.pop()
        if folder != root:
            for inner, name in zip(_cleared(folder), itertools.count()):
                _open_up(inner)  # or it cannot be moved
                moved = f"{root}/{token}-{number}-{name}"
                with contextlib.suppress(OSError):
                    Path(inner).rename(moved)
                    waiting.append(moved)
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
        if folder == root:
            return


def _cleared(folder: str) -> list[str]:
    """Remove the files in a folder; the folders in it."""
    _open_up(folder)
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.path)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    return found


def _open_up(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.chmod(folder, 0o700)


@contextlib.contextmanager
def temporary_folder(parent: Path, *, prefix: str) -> Iterator[Path]:
    """A folder below ``parent`` that is gone afterwards, whatever happened short of a kill."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    finally:
        remove_tree(folder)
