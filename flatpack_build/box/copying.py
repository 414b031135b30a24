"""Copy a payload and hash the copy at the same time. Knows bytes and offsets, no keys and no boxes.

Two threads: one copies, the other reads what already stands in the copy and hashes it. So what is hashed is the copy,
whoever writes to the original meanwhile, and a copy takes about as long as the slower of the two.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flatpack_build import events

_HASH_CHUNK = 1024 * 1024
_COPY_CHUNK = 16 * 1024 * 1024
_PROGRESS_STEP = 16 * _HASH_CHUNK


@dataclass(frozen=True)
class Hashed:
    """``size`` bytes were fed to ``state``; ``needle_found``: they contain what was looked for."""

    size: int
    state: hashlib._Hash
    needle_found: bool


def hash_file(fd: int, state: hashlib._Hash, needle: bytes) -> Hashed:
    """Feed an open file to ``state`` from its beginning to its end, looking for ``needle``. Raises ``OSError``."""
    size = os.fstat(fd).st_size
    return _hash(fd, state, needle, size, lambda _: size)


def copy_hashed(
    source: int, destination: int, state: hashlib._Hash, needle: bytes, *, size: int | None = None
) -> Hashed:
    """Copy an open file (its first ``size`` bytes) into another, which is empty, and feed the copy to ``state``.

    Raises ``OSError``.
    """
    copy = _Copy(source, destination, size)
    with copy.running():
        return _hash(destination, state, needle, size or os.fstat(source).st_size, copy.wait)


def _hash(fd: int, state: hashlib._Hash, needle: bytes, total: int, available: Callable[[int], int]) -> Hashed:
    """``available`` waits until there are more bytes than it is given, and says how many; the same: there is no more."""
    buffer = bytearray(len(needle) - 1 + _HASH_CHUNK)
    fresh = memoryview(buffer)[len(needle) - 1 :]
    done = told = 0
    found = False
    with open(fd, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        while (ready := available(done)) > done:
            while done < ready:
                count = file.readinto(fresh[: ready - done])
                if not count:
                    raise OSError(errno.EIO, "the file became shorter while it was read")
                state.update(fresh[:count])
                # The end of one chunk stands before the next, so that a needle across the two is found.
                found = found or buffer.find(needle, 0, len(needle) - 1 + count) >= 0
                buffer[: len(needle) - 1] = buffer[count : count + len(needle) - 1]
                done += count
                if done - told >= _PROGRESS_STEP or done == total:
                    told = done
                    events.progress(done, max(done, total))
    return Hashed(done, state, found)


class _Copy:
    """A copy that another thread is making."""

    def __init__(self, source: int, destination: int, size: int | None) -> None:
        self._source, self._destination, self._size = source, destination, size
        self._changed = threading.Condition()
        self._copied = 0
        self._ended = False
        self._unwanted = False
        self._error: OSError | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="copy", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._unwanted = True
            thread.join()

    def wait(self, more_than: int) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._copied > more_than or self._ended)
            if self._error is not None:
                raise self._error
            return self._copied

    def _run(self) -> None:
        try:
            for count in _copy(self._source, self._destination, self._size):
                with self._changed:
                    self._copied += count
                    self._changed.notify()
                if self._unwanted:
                    break
        except OSError as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


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
    while data := os.pread(source, min(_HASH_CHUNK, end - at), at):
        view = memoryview(data)
        while view:
            written = os.pwrite(destination, view, at)
            view = view[written:]
            at += written
            yield written
