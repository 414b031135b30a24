"""The payload: the tree that goes into a box, its manifest, and writing it as one reproducible ``tar.zst`` stream.

The same entries give the same bytes on any machine, whatever the clock, the umask or the number of cores. Knows no
steps, keys or signatures.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final

from flatpack_build import events
from flatpack_build.box import tar
from flatpack_build.box.paths import find_conflict, path_problem, shown
from flatpack_build.digest import Digest, canonical_json
from flatpack_build.errors import BoxError, DamagedInputError, Place

FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "payload.json"
FILE_MODE: Final = 0o644
EXECUTABLE_MODE: Final = 0o755
MAX_WORKERS: Final = 8
"""More compression threads cost some 30 MB each and no longer pay where disks are as slow as they are."""

_PROGRESS_STEP = 8 * tar.CHUNK
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """One file: ``path`` below the flatpack's folder, ``mode`` 0o644 or 0o755, ``size`` in bytes."""

    path: str
    mode: int
    size: int
    sha256: Digest


@dataclass(frozen=True)
class PayloadManifest:
    """What a box holds. ``files`` and ``folders`` (the empty ones only) are sorted by path; ``payload.json``, which
    is this, is not among them."""

    flatpack: str
    version: str
    target: str
    files: tuple[PayloadFile, ...]
    folders: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def encode(self) -> bytes:
        return canonical_json(
            {
                "format_version": self.format_version,
                "flatpack": self.flatpack,
                "version": self.version,
                "target": self.target,
                "files": [
                    {"path": file.path, "mode": f"{file.mode:04o}", "size": file.size, "sha256": file.sha256}
                    for file in self.files
                ],
                "folders": list(self.folders),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> PayloadManifest:
        """Read ``payload.json``. There is one spelling of each manifest; anything else raises ``BoxError``."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            raise BoxError(f"the box's {MANIFEST_NAME} is not JSON") from None
        if not isinstance(value, dict) or not isinstance(value.get("format_version"), int):
            raise BoxError(f"the box's {MANIFEST_NAME} is no payload manifest")
        if value["format_version"] != FORMAT_VERSION:
            raise BoxError(
                f"the box has format version {value['format_version']}, this program reads version {FORMAT_VERSION}",
                hint="update flatpack-build on this machine",
            )
        try:
            manifest = cls(
                value["flatpack"],
                value["version"],
                value["target"],
                tuple(
                    PayloadFile(file["path"], int(file["mode"], 8), file["size"], Digest.parse(file["sha256"]))
                    for file in value["files"]
                ),
                tuple(value["folders"]),
            )
            same = manifest.encode() == data
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BoxError(f"the box's {MANIFEST_NAME} is no payload manifest: {error}") from None
        if not same:
            raise BoxError(f"the box's {MANIFEST_NAME} is not written in its canonical form")
        manifest.check()
        return manifest

    def check(self) -> None:
        """Raise ``BoxError`` where a path, mode, size or name may not stand in a box."""
        if not all(isinstance(text, str) for text in (self.flatpack, self.version, self.target)):
            raise BoxError("the payload manifest's flatpack, version and target must be texts")
        if not (self.version + self.target).isprintable():  # they are shown in terminals
            raise BoxError("the payload manifest's version or target has a character in it that cannot be printed")
        if not _NAME.fullmatch(self.flatpack):
            raise BoxError(
                f"a box cannot be named {shown(self.flatpack)}", hint="letters, digits, '_' and '-' may be used"
            )
        paths = [file.path for file in self.files]
        for path in (*paths, *self.folders):
            if not isinstance(path, str):
                raise BoxError("a path in the payload manifest is no text")
            if problem := path_problem(path):
                raise BoxError(f"the path {shown(path)} {problem}")
        for file in self.files:
            if file.mode not in (FILE_MODE, EXECUTABLE_MODE):
                raise BoxError(f"{file.path!r} has mode {file.mode:04o}; a box holds 0644 and 0755 only")
            if type(file.size) is not int or file.size < 0:
                raise BoxError(f"{file.path!r} has no valid size")
        if conflict := find_conflict((MANIFEST_NAME, *paths), self.folders):
            raise BoxError(str(conflict))
        if paths != sorted(paths) or self.folders != tuple(sorted(set(self.folders))):
            raise BoxError("the payload manifest is not sorted")

    @cached_property
    def digest(self) -> Digest:
        """Names the content of the payload, however it is compressed."""
        return Digest.of_bytes(self.encode())

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(file.size for file in self.files)

    def order(self) -> list[PayloadFile | str]:
        """Files, and the paths of empty folders, in the order in which they stand in the archive."""
        items: list[PayloadFile | str] = [*self.files, *self.folders]
        return sorted(items, key=lambda item: item if isinstance(item, str) else item.path)


@dataclass(frozen=True, slots=True)
class PayloadEntry:
    """One thing to pack at ``path``: a file of this machine, a few bytes, or (``None``) an empty folder.

    ``sha256`` is that of the file, where it is known already.
    """

    path: str
    source: Path | bytes | None
    executable: bool = False
    sha256: Digest | None = None


def write_payload(
    entries: Sequence[PayloadEntry],
    out_file: BinaryIO,
    *,
    flatpack: str,
    version: str,
    target: str,
    level: int = 3,
    workers: int | None = None,
    describe: Callable[[PayloadManifest], Sequence[PayloadEntry]] | None = None,
) -> PayloadManifest:
    """Write ``entries`` as a tar in one zstd frame to ``out_file``; nothing is held in memory but one chunk a worker.

    The manifest stands at the front of the archive, so it is made first, which reads every file whose digest is not
    known; then everything is read and written. ``workers`` (at least 1, by default the cores there are) does not
    change a byte. ``describe`` is told what there is and gives more entries, made from that: descriptions of the rest.
    Raises ``BoxError``, also when a file changes meanwhile, ``DamagedInputError`` when one does not have the digest it
    is known by, and ``OSError``.
    """
    workers = workers or available_workers()
    manifest, stamps = _measure(entries, flatpack, version, target, workers)
    if describe:
        more = describe(manifest)
        added, _ = _measure(more, flatpack, version, target, workers)
        files = sorted((*manifest.files, *added.files), key=lambda file: file.path)
        manifest = replace(manifest, files=tuple(files))
        manifest.check()
        entries = [*entries, *more]
    sources = {entry.path: entry for entry in entries}
    total = 0
    for header, _, size in _parts(manifest):
        total += len(header) + size + -size % tar.BLOCK
    end = tar.ending(total)

    import zstandard  # heavy, and this module is also read for its types

    # Threads of its own, even if it is one: zstd's output with threads is not its output without, and does not
    # depend on how many they are.
    compressor = zstandard.ZstdCompressor(
        level=level, threads=workers, write_checksum=True, write_content_size=True, write_dict_id=False
    )
    done, told, total_content = 0, 0, manifest.size
    events.progress(0, total_content)
    # Not used as a context: that would end the frame after an error, too, and fail for want of the rest.
    stream = compressor.stream_writer(out_file, size=total + len(end), closefd=False)
    with ThreadPoolExecutor(1) as hashing:
        for header, path, size in _parts(manifest):
            stream.write(header)
            if path == MANIFEST_NAME:
                stream.write(manifest.encode())
            elif path is not None:
                for chunk in _read(sources[path], stamps.get(path), size, hashing):
                    stream.write(chunk)
                    done += len(chunk)
                    if done - told >= _PROGRESS_STEP or done == total_content:
                        told = done
                        events.progress(done, total_content)
            stream.write(tar.padding(size))
    stream.write(end)
    stream.flush(zstandard.FLUSH_FRAME)
    return manifest


def available_workers() -> int:
    """The cores this process may use, at least 1 and at most ``MAX_WORKERS``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, MAX_WORKERS))


def _parts(manifest: PayloadManifest) -> Iterator[tuple[bytes, str | None, int]]:
    """Each entry of the archive in turn: its header, the path of its content (``None``: a folder), its size."""
    top = manifest.flatpack
    size = len(manifest.encode())
    yield tar.encode_header(top, "folder", EXECUTABLE_MODE, 0), None, 0
    yield tar.encode_header(f"{top}/{MANIFEST_NAME}", "file", FILE_MODE, size), MANIFEST_NAME, size
    for item in manifest.order():
        if isinstance(item, str):
            yield tar.encode_header(f"{top}/{item}", "folder", EXECUTABLE_MODE, 0), None, 0
        else:
            yield tar.encode_header(f"{top}/{item.path}", "file", item.mode, item.size), item.path, item.size


_Stamp = tuple[int, int, int]
"""Inode, size and time of a file: enough to see that it is still the one that was measured."""


def _stamp(file: BinaryIO) -> _Stamp:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _measure(
    entries: Sequence[PayloadEntry], flatpack: str, version: str, target: str, workers: int
) -> tuple[PayloadManifest, dict[str, _Stamp]]:
    def measure(entry: PayloadEntry) -> tuple[PayloadFile, _Stamp | None]:
        mode = EXECUTABLE_MODE if entry.executable else FILE_MODE
        if isinstance(entry.source, bytes):
            return PayloadFile(entry.path, mode, len(entry.source), Digest.of_bytes(entry.source)), None
        assert entry.source is not None
        if entry.sha256 is not None:
            return PayloadFile(entry.path, mode, os.stat(entry.source).st_size, entry.sha256), None
        with open(entry.source, "rb", buffering=0) as file:
            stamp = _stamp(file)
            sha256 = Digest(hashlib.file_digest(file, "sha256").hexdigest())
        return PayloadFile(entry.path, mode, stamp[1], sha256), stamp

    with ThreadPoolExecutor(workers) as pool:
        measured = list(pool.map(measure, [entry for entry in entries if entry.source is not None]))
    manifest = PayloadManifest(
        flatpack,
        version,
        target,
        tuple(sorted((file for file, _ in measured), key=lambda file: file.path)),
        tuple(sorted(entry.path for entry in entries if entry.source is None)),
    )
    manifest.check()
    return manifest, {file.path: stamp for file, stamp in measured if stamp}


def _read(entry: PayloadEntry, stamp: _Stamp | None, size: int, hashing: Executor) -> Iterator[bytes]:
    """The bytes of a file that was measured (``stamp``), or of one known by its digest, which ``hashing`` checks."""
    if isinstance(entry.source, bytes):
        yield entry.source
        return
    assert entry.source is not None
    hashed = _Hashed(hashing) if stamp is None else None
    with open(entry.source, "rb", buffering=0) as file:
        done = 0
        while chunk := file.read(tar.CHUNK):
            done += len(chunk)
            if done > size:
                break
            if hashed:
                hashed.update(chunk)
            yield chunk
        if hashed and hashed.digest() != entry.sha256:
            raise DamagedInputError(f"{entry.path!r} is not what it was when its digest was taken")
        if done != size or (stamp and _stamp(file) != stamp):
            raise BoxError(
                "the file changed while it was packed", place=Place(os.fspath(entry.source)), hint="build again"
            )


class _Hashed:
    """A sha256 that another thread makes, a few chunks behind: hashlib and zstd both let go of the GIL."""

    _BEHIND = 4

    def __init__(self, hashing: Executor) -> None:
        self._hashing = hashing
        self._state = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()

    def update(self, chunk: bytes) -> None:
        if len(self._waiting) == self._BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._hashing.submit(self._state.update, chunk))

    def digest(self) -> Digest:
        while self._waiting:
            self._waiting.popleft().result()
        return Digest(self._state.hexdigest())
