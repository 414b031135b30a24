"""Locks between processes that die with their holder (``flock``). Knows nothing of what they protect."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType

from flatpack_build.fs import open_to_lock


class Lock:
    """A lock on a file of its own, exclusive unless it is ``shared``.

    Also excludes other threads of this process: each opens the file anew.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._fd = -1

    def acquire(self, *, wait: bool = True, create: bool = True) -> bool:
        """Take the lock; without ``wait`` say ``False`` when somebody has it. Without ``create`` its file must exist.

        Raises ``OSError``.
        """
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            fd = open_to_lock(self.path, create=create)
            try:
                fcntl.flock(fd, self._kind | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
            # The holder before us may have removed the file: then this lock is on a name nobody else will find.
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self.path).st_ino == os.fstat(fd).st_ino:
                    self._fd = fd
                    return True
            os.close(fd)

    def release(self, *, remove: bool = False) -> None:
        """Give the lock up; ``remove`` also deletes its file (while it is still held, so nobody is fooled)."""
        if self._fd < 0:
            return
        if remove:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(remove=True)


def try_lock(path: Path, *, create: bool = True) -> Lock | None:
    """The lock if nobody holds it, else ``None``. Raises ``OSError``."""
    lock = Lock(path)
    return lock if lock.acquire(wait=False, create=create) else None
