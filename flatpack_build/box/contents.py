"""What is inside a box's payload, read as a stream: its manifest, its entries, and whether the two agree.

Looks at the payload only: whether anybody signed it is for ``container`` to say. Writes no files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from flatpack_build.box import tar
from flatpack_build.box.entries import Gate
from flatpack_build.box.frame import MAGIC
from flatpack_build.box.limits import DEFAULT_LIMITS, Limits
from flatpack_build.box.paths import find_conflict, path_problem, shown
from flatpack_build.box.payload import (
    EXECUTABLE_MODE,
    FILE_MODE,
    MANIFEST_NAME,
    MAX_MANIFEST,
    PayloadFile,
    PayloadManifest,
    require_short,
)
from flatpack_build.box.stream import PayloadStream
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError, Place


@contextlib.contextmanager
def open_box(box: Path) -> Iterator[BinaryIO]:
    """``box``, open for reading. What goes wrong inside names it; raises ``BoxError``, also where it cannot be read."""
    place = Place(str(box))
    try:
        with open(box, "rb") as file:
            yield file
    except BoxError as error:
        raise BoxError(error.message, place=error.place or place, hint=error.hint) from error
    except FileNotFoundError as error:
        raise BoxError("there is no such box", place=place, hint="builds put theirs into the project's dist") from error
    except IsADirectoryError as error:
        raise BoxError("this is a folder, not a box", place=place, hint=f"its boxes: ls {box}/*.fpk") from error
    except OSError as error:
        raise BoxError(f"the box cannot be read: {error.strerror}", place=place) from error


def require_frame(file: BinaryIO) -> None:
    """Raise ``BoxError`` for what cannot be a box, by its first bytes."""
    if os.pread(file.fileno(), len(MAGIC), 0) != MAGIC:
        raise BoxError("this is not a box: it does not begin with a zstd frame")


def find_payload_manifest(box: Path) -> PayloadManifest | None:
    """The payload manifest at the front of ``box``; ``None`` where it has none, as the boxes of the original Flatpack.

    Only the head of the payload is read, and nothing is verified: a damaged box may look like one without a manifest.
    Raises ``BoxError``.
    """
    with open_box(box) as file:
        return manifest_in(file)


def manifest_in(file: BinaryIO) -> PayloadManifest | None:
    """``find_payload_manifest`` of an open box, wherever its position."""
    front = _front(file)
    return _read_manifest(*front) if front else None


def require_short_manifest(file: BinaryIO) -> None:
    """Raise ``BoxError`` for an open payload that no reader would take, because it holds too many files."""
    front = _front(file)
    if front:
        require_short(front[2].size)


def _front(file: BinaryIO) -> tuple[tar.TarReader, tar.TarEntry, tar.TarEntry] | None:
    """The top folder and the payload manifest's entry, and what reads on from there; ``None``: there is no manifest."""
    require_frame(file)
    if _says_empty(file):
        return None
    file.seek(0)
    if not tar.is_header(PayloadStream(file, DEFAULT_LIMITS).read(tar.BLOCK)):
        return None  # a single file, compressed without an archive around it
    file.seek(0)
    reader = tar.TarReader(PayloadStream(file, DEFAULT_LIMITS))
    entries = iter(reader)
    top, first = next(entries, None), next(entries, None)
    if not top or not first or top.kind != "folder" or first.path != f"{top.path}/{MANIFEST_NAME}":
        return None
    return reader, top, first


def _says_empty(file: BinaryIO) -> bool:
    """Whether the frame is one of nothing: its end would be met before its beginning, and what follows read on."""
    import zstandard  # heavy

    try:
        return bool(zstandard.frame_content_size(os.pread(file.fileno(), 18, 0)) == 0)
    except zstandard.ZstdError:
        return False


def read_payload_manifest(box: Path) -> PayloadManifest:
    """The payload manifest of ``box``, from its head only. Raises ``BoxError``, also where there is none."""
    manifest = find_payload_manifest(box)
    if manifest is None:
        raise BoxError(f"the box has no {MANIFEST_NAME}", place=Place(str(box)))
    return manifest


def list_entries(box: Path, limits: Limits = DEFAULT_LIMITS) -> Iterator[tar.TarEntry]:
    """All that is in the archive of ``box``, safe or not, in its order; nothing is verified. Raises ``BoxError``."""
    with open_box(box) as file:
        require_frame(file)
        yield from tar.TarReader(PayloadStream(file, limits))


Write = Callable[[bytes], object]


class Sink(Protocol):
    """Where the files of a payload go. Paths are relative to its folder and have been checked."""

    def file(self, path: str, mode: int, size: int) -> Write:
        """Called for each file before its content; the content goes to what is returned, in chunks."""

    def folder(self, path: str) -> None: ...


class _Nowhere:
    def file(self, path: str, mode: int, size: int) -> Write:
        return len

    def folder(self, path: str) -> None: ...


def check_contents(
    file: tar.Readable,
    manifest: PayloadManifest | None = None,
    *,
    sink: Sink | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> PayloadManifest:
    """Read a payload (``file``: that, and nothing behind it) to its end and compare it with its manifest; with
    ``manifest``, which was read before, that has to be the one at its front.

    The archive must be exactly the one that ``write_payload`` makes of the manifest: the same paths, kinds, modes,
    sizes and digests in the same order, nothing more. ``sink`` receives each file and each empty folder, after
    everything but its digest has been checked; its manifest not. Raises ``BoxError``.
    """
    gate, sink = Gate(limits), sink or _Nowhere()
    reader = tar.TarReader(PayloadStream(file, limits))
    entries = _admitted(reader, gate)
    top, first = next(entries, None), next(entries, None)
    if not top or not first or top.kind != "folder" or first.path != f"{top.path}/{MANIFEST_NAME}":
        raise BoxError(f"the box does not begin with its {MANIFEST_NAME}")
    manifest = _read_manifest(reader, top, first, manifest)
    expected: dict[str, PayloadFile | str] = {}
    for item in manifest.order():
        expected[f"{manifest.flatpack}/{item if isinstance(item, str) else item.path}"] = item
    waiting = deque(expected)
    for entry in entries:
        name = shown(entry.path)
        if entry.path in (top.path, first.path):
            raise BoxError(f"{name} stands in the box twice")
        wanted = expected.get(entry.path)
        if wanted is None:
            raise BoxError(f"{name} is in the box but not in its manifest")
        if not waiting or entry.path < waiting[0]:
            raise BoxError(f"{name} stands in the box twice")
        if (missing := waiting.popleft()) != entry.path:
            raise BoxError(f"{shown(missing)} is in the manifest but not in the box, or not in its place")
        if isinstance(wanted, str):
            if entry.kind != "folder" or entry.mode != EXECUTABLE_MODE:
                raise BoxError(f"{name} is not the folder that the manifest says it is")
            sink.folder(wanted)
            continue
        if entry.kind != "file":
            raise BoxError(f"{name} is a {entry.kind} in the box, and a file in its manifest")
        if (entry.mode, entry.size) != (wanted.mode, wanted.size):
            raise BoxError(f"{name} has not the mode and the size that its manifest says")
        digest = hashlib.sha256()
        write = sink.file(wanted.path, wanted.mode, wanted.size)
        for chunk in reader.content():
            digest.update(chunk)
            write(chunk)
        if digest.hexdigest() != wanted.sha256:
            raise BoxError(f"{name} has not the digest that its manifest says")
    if waiting:
        raise BoxError(f"{shown(waiting[0])} is in the manifest but not in the box")
    reader.finish()
    return manifest


def read_unlisted(file: tar.Readable, name: str, sink: Sink | None = None, *, limits: Limits = DEFAULT_LIMITS) -> None:
    """Read a payload of the original Flatpack, which has no manifest: one folder, or (``name``) a single file.

    Nothing says what should be in it, but nothing dangerous may be. ``sink`` receives each file and folder; that two of
    them exclude each other is found out at the end. Raises ``BoxError``.
    """
    sink = sink or _Nowhere()
    stream = PayloadStream(file, limits)
    first = stream.read(tar.BLOCK)
    if not tar.is_header(first):
        _read_single(stream, first, name, sink, limits)
        return
    reader = tar.TarReader(_Rejoined(first, stream))
    entries = _admitted(reader, Gate(limits))
    top = next(entries, None)
    if not top or top.kind != "folder" or "/" in top.path:
        raise BoxError("the archive in the box does not begin with its folder")
    seen: dict[str, bool] = {}
    for entry in entries:
        path = entry.path.removeprefix(f"{top.path}/")
        if entry.path == top.path or path in seen:
            raise BoxError(f"{shown(entry.path)} stands in the box twice")
        if path == MANIFEST_NAME:
            raise BoxError(f"the {MANIFEST_NAME} of the box does not stand at its front, so nothing can be checked")
        seen[path] = entry.kind == "file"
        try:
            if entry.kind == "folder":
                sink.folder(path)
                continue
            write = sink.file(path, EXECUTABLE_MODE if entry.mode & 0o111 else FILE_MODE, entry.size)
        except (FileExistsError, NotADirectoryError):
            _require_no_conflict(seen)  # says what is wrong more exactly
            raise
        for chunk in reader.content():
            write(chunk)
    reader.finish()
    _require_no_conflict(seen)


def _require_no_conflict(seen: Mapping[str, bool]) -> None:
    files = [path for path, is_file in seen.items() if is_file]
    if conflict := find_conflict(files, [path for path, is_file in seen.items() if not is_file]):
        raise BoxError(str(conflict))


def _read_single(stream: PayloadStream, first: bytes, name: str, sink: Sink, limits: Limits) -> None:
    if problem := path_problem(name) or ("names a folder" if "/" in name else ""):
        raise BoxError(f"the name {shown(name)} {problem}")
    write, size, chunk = sink.file(name, FILE_MODE, 0), 0, first
    while chunk:
        size += len(chunk)
        if size > limits.file_size:
            raise BoxError(f"the file in the box has more than {limits.file_size:,} bytes")
        write(chunk)
        chunk = stream.read(tar.CHUNK)


class _Rejoined:
    """A stream of which the first bytes have been read already."""

    def __init__(self, first: bytes, rest: tar.Readable) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        if not self._first:
            return self._rest.read(size)
        end = len(self._first) if size < 0 else size
        data, self._first = self._first[:end], self._first[end:]
        return data


def _admitted(reader: tar.TarReader, gate: Gate) -> Iterator[tar.TarEntry]:
    for entry in reader:
        gate.admit(entry)
        yield entry


def _read_manifest(
    reader: tar.TarReader, top: tar.TarEntry, entry: tar.TarEntry, known: PayloadManifest | None = None
) -> PayloadManifest:
    if entry.kind != "file" or entry.mode != FILE_MODE or top.mode != EXECUTABLE_MODE:
        raise BoxError(f"the {MANIFEST_NAME} of the box is not a plain file in a plain folder")
    if entry.size > MAX_MANIFEST:
        raise BoxError(f"the {MANIFEST_NAME} of the box is too large: {entry.size:,} bytes, at most {MAX_MANIFEST:,}")
    data = b"".join(reader.content())
    if known is not None and Digest.of_bytes(data) != known.digest:
        raise BoxError("the box changed while it was read")
    manifest = known or PayloadManifest.decode(data)
    if manifest.flatpack != top.path:
        raise BoxError(f"the box's folder {shown(top.path)} is not named as its flatpack {shown(manifest.flatpack)}")
    return manifest
