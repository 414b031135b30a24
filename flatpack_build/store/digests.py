"""Digests of the user's files, remembered by what ``stat`` says of them, so that no unchanged file is read again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from flatpack_build.digest import Digest, sealed, unsealed
from flatpack_build.errors import SourceError
from flatpack_build.fs import atomic_write

# A file changed this recently may change again without its times moving: no digest of it is remembered.
_CLOCK_TICK_NS = 100_000_000
_FORMAT = 1
_WORTH_THREADS = 8 << 20  # bytes; below that, starting threads costs more than it brings


def _signature(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


class DigestCache:
    """Path -> digest, kept in one JSON file. Trusts device, inode, size, mtime and ctime together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        self._changed = False
        try:
            value = json.loads(unsealed(path.read_bytes()))
            if value["format"] == _FORMAT:
                self._known = value["digests"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent or damaged: everything is hashed again

    def prepare(self, paths: Sequence[str]) -> None:
        """Hash what is not known yet of ``paths`` on all cores, if that is enough to be worth it. Raises ``SourceError``."""
        unknown = []
        for path in paths:
            try:
                status = os.stat(path)
            except OSError:
                continue  # ``digest`` says so
            known = self._known.get(path)
            if known is None or known[:5] != _signature(status):
                unknown.append((status.st_size, path))
        if len(unknown) > 1 and sum(size for size, _ in unknown) > _WORTH_THREADS:
            from concurrent.futures import ThreadPoolExecutor  # only where there is much to hash

            # The largest first, so that none is left over when the others are done. hashlib lets go of the GIL.
            ordered = [path for _, path in sorted(unknown, reverse=True)]
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                for _ in threads.map(self.digest, ordered):
                    pass

    def digest(self, path: str) -> tuple[Digest, os.stat_result]:
        """The sha256 of a file and its status. Raises ``SourceError`` when it cannot be read."""
        try:
            status = os.stat(path)
            signature = _signature(status)
            known = self._known.get(path)
            if known is not None and known[:5] == signature:
                return Digest(known[5]), status
            now = time.time_ns()
            digest = Digest.of_file(Path(path))
        except OSError as error:
            raise SourceError(
                f"cannot read {path}: {error.strerror}", hint="check the path and its permissions"
            ) from error
        if now - max(status.st_mtime_ns, status.st_ctime_ns) > _CLOCK_TICK_NS:
            self._known[path] = [*signature, digest]
            self._changed = True
        elif self._known.pop(path, None) is not None:
            self._changed = True
        return digest, status

    def signature(self, path: str) -> list[int] | None:
        """The status that a remembered file had when it was hashed; ``None`` when it is not remembered."""
        known = self._known.get(path)
        return None if known is None else [int(part) for part in known[:5]]

    def remember(self, path: str, digest: Digest) -> None:
        """Note the digest of a file that has just been put in place whole, so that it is not read back."""
        self._known[path] = [*_signature(os.stat(path)), digest]
        self._changed = True

    def forget(self, path: str) -> None:
        """Hash this file anew the next time: it is not what was remembered, whatever its times say."""
        self._changed = self._known.pop(path, None) is not None or self._changed

    def save(self) -> None:
        """Write what was learned, if anything. A failure to write loses time, not correctness, and is let go."""
        if not self._changed:
            return
        try:
            atomic_write(self._path, sealed(json.dumps({"format": _FORMAT, "digests": self._known}).encode()))
        except OSError:
            return
        self._changed = False
