"""Bytes on their way into a file: hashed, counted and reported as they pass. Knows no network."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from flatpack_build import events
from flatpack_build.digest import Digest
from flatpack_build.errors import VerificationError

CHUNK = 1 << 20
_INTERVAL = 0.05


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Fetched:
    """What a source gave: ``files`` (path -> sha256), what it immutably is, and its bytes in all.

    ``present`` is False where all that was learnt without a download: the folder is empty then.
    """

    files: Mapping[str, str]
    identity: Mapping[str, str]
    size: int
    present: bool = True
    facts: Mapping[str, int | str | float] = field(default_factory=dict)


class Meter:
    """Adds up bytes and reports them, some twenty times a second at most."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.done = 0
        self._next = 0.0

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now >= self._next or self.done == self.total:
            self._next = now + _INTERVAL
            events.progress(self.done, self.total)


class Sink:
    """A new file that is hashed while it is written. Raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "xb")  # noqa: SIM115 - closed by __exit__
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget everything that was written."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> Digest:
        return Digest(self._hash.hexdigest())


def copy_stream(source: Readable, path: Path, meter: Meter) -> tuple[Digest, int]:
    """Write all of ``source`` to the new file ``path``; give its digest and bytes. Raises ``OSError``."""
    with Sink(path) as sink:
        while chunk := source.read(CHUNK):
            sink.write(chunk)
            meter.add(len(chunk))
    return sink.digest, sink.size


def mismatch(source: str, name: str, expected: str, got: str, *, hint: str = "") -> VerificationError:
    """The error for bytes that are not the locked ones."""
    return VerificationError(
        f"{source}: {name} is not what was locked\n  expected sha256 {expected}\n  got      sha256 {got}",
        hint=hint or "it was changed where it comes from; if that is right, run: flatpack lock <name>",
    )


def check_files(source: str, expected: Mapping[str, str], got: Mapping[str, str]) -> None:
    """Raises ``VerificationError`` where what was fetched is not exactly what was locked."""
    for name, digest in sorted(expected.items()):
        if name not in got:
            raise VerificationError(f"{source}: {name} is no longer in it", hint="run: flatpack lock <name>")
        if got[name] != digest:
            raise mismatch(source, name, digest, got[name])
    if more := sorted(got.keys() - expected.keys()):
        raise VerificationError(
            f"{source}: {more[0]} was not in it when it was locked", hint="run: flatpack lock <name>"
        )
