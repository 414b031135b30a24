"""Writing a payload: the tree that goes into a box, as one reproducible ``tar.zst`` stream.

The same entries give the same bytes on any machine, whatever the clock, the umask or the number of cores. Knows no
steps, keys or signatures.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from flatpack_build import events
from flatpack_build.box import tar
from flatpack_build.box.payload import (
    EXECUTABLE_MODE,
    FILE_MODE,
    MANIFEST_NAME,
    PayloadFile,
    PayloadManifest,
    require_short,
)
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError, DamagedInputError, Place

MAX_WORKERS: Final = 8
"""More compression threads cost some 30 MB each and no longer pay where disks are as slow as they are."""

_PROGRESS_STEP = 8 * tar.CHUNK


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
    require_short(len(manifest.encode()))
    sources = {entry.path: entry for entry in entries}
    total = 0
    for header, _, size in _parts(manifest):
        total += len(header) + size + -size % tar.BLOCK
    end = tar.ending(total)

    # Threads of its own, even if it is one: zstd's output with threads is not its output without, and does not
    # depend on how many they are.
    compressor = zstandard.ZstdCompressor(
        level=level, threads=workers, write_checksum=True, write_content_size=True, write_dict_id=False
    )
    done, told, total_content = 0, 0, manifest.size
    events.progress(0, total_content)
    # Not used as a context: that would end the frame after an error, too, and fail for want of the rest.
    stream = compressor.stream_writer(out_file, size=total + len(end), closefd=False)
    with _Reader() as reader:
        for header, path, size in _parts(manifest):
            stream.write(header)
            if path == MANIFEST_NAME:
                stream.write(manifest.encode())
            elif path is not None:
                for chunk in reader.chunks(sources[path], size, stamps.get(path)):
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


class _Reader:
    """Reads files in chunks, always into the same few buffers, and hashes them in another thread as they pass: reading,
    hashing and compressing all let go of the GIL."""

    _BUFFERS = 4

    def __init__(self) -> None:
        self._buffers = deque(memoryview(bytearray(tar.CHUNK)) for _ in range(self._BUFFERS))
        self._hashing = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_error: object) -> None:
        self._hashing.shutdown()

    def chunks(self, entry: PayloadEntry, size: int, stamp: _Stamp | None) -> Iterator[memoryview]:
        """The bytes of a file that was measured (``stamp``), or whose digest is known, and is checked. Each chunk is good
        until the next one is asked for."""
        if isinstance(entry.source, bytes):
            yield memoryview(entry.source)
            return
        assert entry.source is not None
        state = hashlib.sha256() if stamp is None else None
        with open(entry.source, "rb", buffering=0) as file:
            done = 0
            while True:
                if len(self._waiting) == self._BUFFERS - 1:
                    self._waiting.popleft().result()
                buffer = self._buffers[0]
                self._buffers.rotate(-1)
                count = file.readinto(buffer)
                if not count or done + count > size:
                    break
                done += count
                chunk = buffer[:count]
                if state is not None:
                    self._waiting.append(self._hashing.submit(state.update, chunk))
                yield chunk
            while self._waiting:
                self._waiting.popleft().result()
            if state is not None and (count or state.hexdigest() != entry.sha256):
                raise DamagedInputError(f"{entry.path!r} is not what it was when its digest was taken")
            if count or done != size or (stamp is not None and _stamp(file) != stamp):
                raise BoxError(
                    "the file changed while it was packed", place=Place(os.fspath(entry.source)), hint="build again"
                )
