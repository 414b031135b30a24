"""Who uses a cache folder now: builds share it, ``flatpack cache gc`` has it alone. Knows no blobs and no actions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from flatpack_build.store.locks import Lock

_NAME = "in-use"
_STAMP = "last-gc"
_DAY = 86400.0  # seconds


class CacheUse:
    """One user of the cache in ``root``. The kernel ends its use with its process, however that dies."""

    def __init__(self, root: Path) -> None:
        self._path = root / _NAME
        self._lock: Lock | None = None

    def hold(self, waiting: Callable[[], None]) -> None:
        """Use the cache together with others until ``release``; calls ``waiting`` when it is being cleaned up.

        Where the folder cannot be written (a cache on a read-only disk) there is nothing to take, and nobody to clean it.
        """
        if self._lock is not None:
            return
        lock = Lock(self._path, shared=True)
        with contextlib.suppress(OSError):
            if not lock.acquire(wait=False):
                waiting()
                lock.acquire()
            self._lock = lock

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def have_alone(root: Path, *, wait: bool) -> Lock | None:
    """The cache without any other user, until the lock is released; without ``wait`` ``None`` when there are some.

    Raises ``OSError``.
    """
    lock = Lock(root / _NAME)
    return lock if lock.acquire(wait=wait) else None


def note_collection(root: Path, *, now: float) -> None:
    """Remember that the cache is being cleaned up now. A failure costs a collection too many, and is let go."""
    stamp = root / _STAMP
    with contextlib.suppress(OSError):  # a full disk is no reason not to clean it
        stamp.touch()
        os.utime(stamp, (now, now))


def is_due(root: Path, *, now: float) -> bool:
    """Whether the last collection is more than a day ago. One look-up."""
    try:
        last = os.stat(root / _STAMP).st_mtime
    except OSError:
        return True
    return not 0 <= now - last < _DAY
