"""The store and the action cache in one folder of this machine. Knows bytes and names, no steps and no graph.

Layout: ``blobs/ab/abcd…`` (mode 0444), ``actions/ab/abcd…`` (JSON; its mtime is when it was last used, to the hour),
``locks/``, ``tmp/``; ``in-use``, ``projects/`` and ``last-gc`` are for the garbage collection. Every file gets its name by
a rename, so it is whole or absent. No fsync: after a power cut a file system that orders data before size (ext4, xfs,
btrfs, apfs) leaves a lost blob short, and ``contains`` compares lengths; a short action entry is no JSON and so no
entry.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flatpack_build.digest import ActionKey, Digest
from flatpack_build.errors import StoreError
from flatpack_build.fs import atomic_write, copy_file, remove_tree
from flatpack_build.store.locks import Lock, try_lock
from flatpack_build.store.protocol import ActionResult

_USE_INTERVAL = 3600.0  # seconds: an entry's last use is noted no more often than this


def cannot(doing: str, error: OSError, root: Path) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free some space on the disk of {root}; nothing that was built so far is lost"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "make that folder writable, or choose another one with the environment variable FLATPACK_CACHE"
    else:
        hint = "choose another folder with the environment variable FLATPACK_CACHE"
    return StoreError(f"cannot {doing} in the cache folder {root}: {error.strerror or error}", hint=hint)


class LocalStore:
    """A ``Store`` in ``root``. With ``verify`` every blob that is asked for is hashed, again only if its status changed;
    a damaged one is removed, and so is not there."""

    def __init__(self, root: Path, *, verify: bool = False) -> None:
        self.root = root
        self.verify = verify
        self._blobs = root / "blobs"
        self._verified: dict[Digest, tuple[int, ...]] = {}

    def _name(self, digest: Digest) -> Path:
        return self._blobs / digest[:2] / digest

    def contains(self, digest: Digest, size: int | None = None) -> bool:
        try:
            found = os.stat(self._name(digest))
        except OSError:
            return False
        if size is not None and size != found.st_size:
            return False
        if self.verify:
            try:
                return self._is_whole(digest, found)
            except OSError:
                return False
        return True

    def _is_whole(self, digest: Digest, status: os.stat_result) -> bool:
        """Whether the blob has its bytes; otherwise it is removed. Raises ``OSError`` when it cannot be read."""
        signature = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._verified.get(digest) == signature:
            return True
        if Digest.of_file(self._name(digest)) != digest:
            self.discard(digest)
            return False
        self._verified[digest] = signature
        return True

    def path(self, digest: Digest) -> Path:
        name = self._name(digest)
        try:
            status = os.stat(name)
        except OSError as error:
            raise StoreError(
                f"blob {digest.short} is not in the cache folder {self.root}", hint="build again"
            ) from error
        if self.verify:
            try:
                whole = self._is_whole(digest, status)
            except OSError as error:
                raise StoreError(f"blob {digest.short} cannot be read: {error.strerror}", hint="build again") from error
            if not whole:
                raise StoreError(
                    f"blob {digest.short} was damaged in the cache folder {self.root} and has been removed",
                    hint="build again: it will be made anew; check the disk if this happens often",
                )
        return name

    def discard(self, digest: Digest) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._name(digest))

    def add_file(self, source: Path, digest: Digest | None = None, *, move: bool = False) -> Digest:
        try:
            digest = digest or Digest.of_file(source)
            name = self._name(digest)
            if self.contains(digest, source.stat().st_size):
                if move:
                    os.unlink(source)
                return digest
            name.parent.mkdir(parents=True, exist_ok=True)
            # A file with several names would let its other names change the blob: it is copied, not moved.
            if move and source.stat().st_nlink == 1:
                with contextlib.suppress(OSError):
                    os.chmod(source, 0o444)
                    os.replace(source, name)
                    return digest
            temporary = name.with_name(f".{digest[:16]}.{secrets.token_hex(4)}.tmp")
            try:
                copy_file(source, temporary, mode=0o444)
                os.replace(temporary, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise cannot(f"store {source.name}", error, self.root) from error
        return digest

    def add_bytes(self, data: bytes) -> Digest:
        digest = Digest.of_bytes(data)
        if not self.contains(digest, len(data)):
            try:
                atomic_write(self._name(digest), data, mode=0o444)
            except OSError as error:
                raise cannot("store a blob", error, self.root) from error
        return digest


class LocalActionCache:
    """An ``ActionCache`` in ``root``: one small JSON file for each key. Its mtime says when it was last used.

    Nothing but the garbage collection reads that, so a clock that jumps costs at most a wrong order of removal.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._clock = clock
        self._actions = os.fspath(root / "actions")

    def _name(self, key: ActionKey) -> str:
        return f"{self._actions}/{key[:2]}/{key}"

    def get(self, key: ActionKey) -> ActionResult | None:
        try:
            with open(self._name(key), "rb") as file:
                data = file.read()
                self._note_use(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise cannot("read an action", error, self.root) from error
        try:
            return ActionResult.decode(data)
        except ValueError:
            return None  # cut short by a power cut: as good as absent, and the next put writes over it

    def _note_use(self, descriptor: int) -> None:
        now = self._clock()
        if not 0 <= now - os.fstat(descriptor).st_mtime < _USE_INTERVAL:
            with contextlib.suppress(OSError):  # somebody else's, or on a read-only disk
                os.utime(descriptor, (now, now))

    def put(self, result: ActionResult) -> None:
        try:
            atomic_write(Path(self._name(result.key)), result.encode())
        except OSError as error:
            raise cannot("record an action", error, self.root) from error

    def results(self) -> Iterator[ActionResult]:
        """All results, in no order. What cannot be read is left out."""
        for folder in self._listed(self._actions):
            for entry in self._listed(folder.path):
                if not entry.name.startswith("."):
                    with contextlib.suppress(OSError, ValueError):
                        yield ActionResult.decode(Path(entry.path).read_bytes())

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError:
            return []

    def lock(self, key: ActionKey) -> Lock:
        """Wait until nobody else works on ``key``, in this or another process."""
        return Lock(self.root / "locks" / key)


class Scratch:
    """A temporary folder on the store's file system, for one process. What dead processes left is removed."""

    def __init__(self, root: Path) -> None:
        self._parent = root / "tmp"
        self._lock: Lock | None = None
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Made on first use."""
        if self._folder is None:
            try:
                sweep_scratch(self._parent)
                folder = self._parent / f"{os.getpid()}-{secrets.token_hex(4)}"
                self._lock = Lock(folder.with_suffix(".lock"))
                self._lock.acquire()
                folder.mkdir(mode=0o700)
            except OSError as error:
                raise cannot("make a temporary folder", error, self._parent.parent) from error
            self._folder = folder
        return self._folder

    def close(self) -> None:
        if self._folder is not None and self._lock is not None:
            remove_tree_if_there(self._folder)
            self._lock.release(remove=True)
            self._folder = self._lock = None


def sweep_scratch(parent: Path) -> None:
    """Remove what dead processes left in the folder of temporary folders. Raises ``OSError``."""
    parent.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(parent):
        if entry.name.endswith(".lock") and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            lock = try_lock(Path(entry.path))
            if lock is not None:  # its process is gone: whatever it left is nobody's
                remove_tree_if_there(Path(entry.path).with_suffix(""))
                lock.release(remove=True)


def remove_tree_if_there(folder: Path) -> None:
    if folder.exists():
        remove_tree(folder)
