"""The store and the action cache in one folder of this machine. Knows bytes and names, no steps and no graph.

Layout: ``blobs/ab/abcd…`` (mode 0444), ``actions/ab/abcd…`` (JSON; its mtime is when it was last used, to the hour),
``locks/``, ``tmp/``; ``in-use``, ``projects/`` and ``last-gc`` are for the garbage collection. Every file is written in
``tmp/`` and gets its name by a rename, so it is whole or absent. No fsync: after a power cut a file system that orders
data before size (ext4, xfs, btrfs, apfs) leaves a lost blob short, and ``contains`` compares lengths; a short action
entry is no JSON and so no entry.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
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
        self._scratch = root / "tmp"

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
            status = source.stat()
            if move:
                found = digest or Digest.of_file(source)
                # A file with several names would let its other names change the blob: it is copied, not moved.
                if status.st_nlink == 1 or self.contains(found, status.st_size):
                    return self._adopt(source, found)
            elif digest is not None and self.contains(digest, status.st_size):
                return digest
            with self._temporary() as copy:
                copy_file(source, copy, mode=0o444)
                # What was copied is what is hashed: the source may be changing while it is read.
                return self._adopt(copy, digest or Digest.of_file(copy))
        except OSError as error:
            raise cannot(f"store {source.name}", error, self.root) from error

    def _adopt(self, file: Path, digest: Digest) -> Digest:
        """Give a file of our own its place among the blobs."""
        if self.contains(digest, file.stat().st_size):
            os.unlink(file)
            return digest
        name = self._name(digest)
        name.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(file, 0o444)
        try:
            os.replace(file, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with self._temporary() as copy:
                copy_file(file, copy, mode=0o444)
                os.replace(copy, name)
            os.unlink(file)
        return digest

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A name for a new file on this file system, swept when this process dies before it gets another."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        path = self._scratch / f"{os.getpid()}-{secrets.token_hex(4)}"
        with Lock(path.with_suffix(".lock")):
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def add_bytes(self, data: bytes) -> Digest:
        digest = Digest.of_bytes(data)
        name = self._name(digest)
        try:
            # Small as they are, they are compared whole: a damaged tree would give wrong paths to good files.
            if not self.contains(digest, len(data)) or name.read_bytes() != data:
                atomic_write(name, data, mode=0o444, scratch=self._scratch)
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
            result = ActionResult.decode(data)
        except ValueError:
            return None  # cut short by a power cut: as good as absent, and the next put writes over it
        return result if result.key == key else None

    def _note_use(self, descriptor: int) -> None:
        now = self._clock()
        if not 0 <= now - os.fstat(descriptor).st_mtime < _USE_INTERVAL:
            with contextlib.suppress(OSError):  # somebody else's, or on a read-only disk
                os.utime(descriptor, (now, now))

    def put(self, result: ActionResult) -> None:
        try:
            atomic_write(Path(self._name(result.key)), result.encode(), scratch=self.root / "tmp")
        except OSError as error:
            raise cannot("record an action", error, self.root) from error

    def results(self) -> Iterator[ActionResult]:
        """All results, in no order. What cannot be read is left out."""
        for folder in _entries(Path(self._actions)):
            for entry in _entries(Path(folder.path)):
                if not entry.name.startswith("."):
                    with contextlib.suppress(OSError, ValueError):
                        yield ActionResult.decode(Path(entry.path).read_bytes())

    @contextlib.contextmanager
    def lock(self, key: ActionKey) -> Iterator[None]:
        """Wait until nobody else works on ``key``, in this or another process. Raises ``StoreError``."""
        lock = Lock(self.root / "locks" / key)
        try:
            lock.acquire()
        except OSError as error:
            raise cannot("lock an action", error, self.root) from error
        try:
            yield
        finally:
            lock.release(remove=True)


class Scratch:
    """A temporary folder on the store's file system, for one process. What dead processes left is removed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parent = root / "tmp"
        self._mutex = threading.Lock()
        self._lock: Lock | None = None
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """Made on first use, by whichever thread comes first."""
        with self._mutex:
            if self._folder is None:
                self.sweep()
                folder = self._parent / f"{os.getpid()}-{secrets.token_hex(4)}"
                lock = Lock(folder.with_suffix(".lock"))
                try:
                    lock.acquire()
                    folder.mkdir(mode=0o700)
                except OSError as error:
                    lock.release(remove=True)
                    raise cannot("make a temporary folder", error, self._root) from error
                self._folder, self._lock = folder, lock
            return self._folder

    def sweep(self) -> None:
        """Remove what processes that are gone have left. What cannot be removed is left for another time."""
        for entry in [*_entries(self._parent), *_entries(self._root / "locks")]:
            path = Path(entry.path)
            if path.parent == self._parent and path.suffix not in (".lock", ".tmp"):
                continue  # goes with its lock
            with contextlib.suppress(OSError):
                lock = try_lock(path, create=False)
                if lock is None:
                    continue
                done = (
                    False  # its process is gone, and whatever it left is nobody's; but what it started may still write
                )
                try:
                    if path.suffix == ".lock":
                        remove_if_there(path.with_suffix(""))
                    done = True
                finally:
                    lock.release(remove=done)

    def close(self) -> None:
        """Leave nothing behind, neither of this process nor of dead ones."""
        with self._mutex:
            if self._folder is not None and self._lock is not None:
                with contextlib.suppress(OSError):  # whoever sweeps next finds it
                    remove_if_there(self._folder)
                self._lock.release(remove=not self._folder.exists())
                self._folder = self._lock = None
            self.sweep()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def remove_if_there(path: Path) -> None:
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
