"""Copy a payload and hash the copy at the same time. Knows bytes and offsets, no keys and no boxes.

Threads: one copies, one reads what already stands in the copy and hashes it, one looks through it for the separator. So
what is hashed is the copy, whoever writes to the original meanwhile, and all of it takes about as long as the slowest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from flatpack_build import events

_CHUNK = 1024 * 1024
_COPY_CHUNK = 16 * 1024 * 1024
_PROGRESS_STEP = 16 * _CHUNK


@dataclass(frozen=True)
class Hashed:
    """``size`` bytes were fed to ``state``; ``needle_found``: they contain what was looked for."""

    size: int
    state: hashlib._Hash
    needle_found: bool


def hash_file(fd: int, state: hashlib._Hash, needle: bytes) -> Hashed:
    """Feed an open file to ``state`` from its beginning to its end, looking for ``needle``. Raises ``OSError``."""
    there = _There()
    there.more(os.fstat(fd).st_size)
    there.end()
    return _hash_and_search(fd, state, needle, there, os.fstat(fd).st_size)


def copy_hashed(
    source: int, destination: int, state: hashlib._Hash, needle: bytes, *, size: int | None = None
) -> Hashed:
    """Copy an open file (its first ``size`` bytes) into another, which is empty, and feed the copy to ``state``.

    Raises ``OSError``.
    """
    there = _There()

    def copy() -> None:
        try:
            for count in _copy(source, destination, size):
                there.more(count)
                if there.unwanted:
                    break
        finally:
            there.end()

    with _running(there) as pool:
        copied = pool.submit(copy)
        hashed = _hash_and_search(destination, state, needle, there, size or os.fstat(source).st_size)
        copied.result()
    return hashed


class _There:
    """How many bytes of a file are there to be read, while it grows."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._ended = False
        self.unwanted = False
        """Whether nobody wants any more of it."""

    def more(self, count: int) -> None:
        with self._changed:
            self._count += count
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, more_than: int) -> int:
        """Wait until there are more bytes than that, and say how many; the same number: there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > more_than or self._ended)
            return self._count


@contextlib.contextmanager
def _running(there: _There) -> Iterator[ThreadPoolExecutor]:
    """A thread that is told to stop, and waited for, when something goes wrong meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool
        except BaseException:
            there.unwanted = True
            raise


def _hash_and_search(fd: int, state: hashlib._Hash, needle: bytes, there: _There, total: int) -> Hashed:
    with _running(there) as pool:
        found: Future[bool] = pool.submit(_search, fd, needle, there)
        size = _hash(fd, state, there, total)
        return Hashed(size, state, found.result())


def _hash(fd: int, state: hashlib._Hash, there: _There, total: int) -> int:
    buffer = memoryview(bytearray(_CHUNK))
    done = told = 0
    while (ready := there.wait(done)) > done:
        while done < ready:
            count = os.preadv(fd, [buffer[: ready - done]], done)
            if not count:
                raise OSError(errno.EIO, "the file became shorter while it was read")
            state.update(buffer[:count])
            done += count
            if done - told >= _PROGRESS_STEP or done == total:
                told = done
                events.progress(done, max(done, total))
    return done


def _search(fd: int, needle: bytes, there: _There) -> bool:
    """Chunks overlap by as much as a needle that began at the end of one would need."""
    buffer = bytearray(_CHUNK)
    at = 0
    while (ready := there.wait(at)) > at and not there.unwanted:
        while at < ready and not there.unwanted:
            start = max(0, at - len(needle) + 1)
            count = os.preadv(fd, [memoryview(buffer)[: ready - start]], start)
            if count <= at - start:
                return False  # it became shorter, which whoever hashes it reports
            if buffer.find(needle, 0, count) >= 0:
                return True
            at = start + count
    return False


def _copy(source: int, destination: int, size: int | None) -> Iterator[int]:
    """Shared blocks or inside the kernel where that works, else chunk by chunk; yields the bytes of each step."""
    at = 0
    end = size if size is not None else sys.maxsize
    if hasattr(os, "copy_file_range"):
        try:
            while count := os.copy_file_range(source, destination, min(_COPY_CHUNK, end - at), at, at):
                at += count
                yield count
        except OSError as error:
            # Two file systems, or one that cannot do it: what is left is copied in the ordinary way.
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                raise
        # Some file systems copy nothing and say so with 0: what follows finds nothing left where all went well.
    while data := os.pread(source, min(_CHUNK, end - at), at):
        view = memoryview(data)
        while view:
            written = os.pwrite(destination, view, at)
            view = view[written:]
            at += written
            yield written
