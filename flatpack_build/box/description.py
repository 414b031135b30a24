"""What is in a box, read as a stream and unpacked nowhere: files, models, provenance. Judges no signature."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from flatpack_build import gguf
from flatpack_build.box.contents import manifest_in
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.box.reading import Layout, PayloadReader, layout_of
from flatpack_build.box.tar import CHUNK, Kind, TarEntry
from flatpack_build.digest import Digest
from flatpack_build.errors import VerificationError

PROVENANCE_NAME = "provenance.json"
SBOM_NAME = "sbom.cdx.json"
MAX_DOCUMENT = 16 * 1024 * 1024
"""Bytes of a provenance or SBOM that are read."""

_UNKNOWN_SIZE = 1 << 62


@dataclass(frozen=True)
class BoxEntry:
    """One entry; ``path`` is relative to the top folder (empty for a box that is one file), ``size`` in bytes."""

    path: str
    kind: Kind
    mode: int
    size: int
    sha256: Digest | None


@dataclass(frozen=True)
class BoxModel:
    """A model in a box: what its header says (``gguf.GgufHeader.facts``), or why it could not be read."""

    path: str
    facts: Mapping[str, int | str]
    problem: str = ""


@dataclass(frozen=True)
class BoxDescription:
    """``manifest`` is ``None`` for a box of the original. ``documents`` holds the provenance and the SBOM if it has
    them: path -> bytes."""

    layout: Layout
    top: str
    manifest: PayloadManifest | None
    entries: tuple[BoxEntry, ...]
    models: tuple[BoxModel, ...]
    documents: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """The bytes of all its files, unpacked."""
        return sum(entry.size for entry in self.entries)


def describe_open_box(file: BinaryIO) -> BoxDescription:
    """Read a box: its manifest where it has one, and of the rest only as far as models and documents stand in it.

    Nothing of it was verified by this. Raises ``BoxError``.
    """
    manifest = manifest_in(file)
    if manifest is None:
        return _describe_original(file)
    entries = tuple(
        BoxEntry(item, "folder", 0o755, 0, None)
        if isinstance(item, str)
        else BoxEntry(item.path, "file", item.mode, item.size, item.sha256)
        for item in manifest.order()
    )
    wanted = {entry.path for entry in entries if entry.kind == "file" and _is_of_interest(entry.path)}
    collected = _Collected()
    for path, entry, reader in _members(file, manifest.flatpack, wanted):
        collected.take(path, entry.size, reader.content())
    return BoxDescription("folder", manifest.flatpack, manifest, entries, tuple(collected.models), collected.documents)


def read_files(file: BinaryIO, wanted: Mapping[str, int]) -> Mapping[str, bytes]:
    """Of an open box, the first bytes of the files in ``wanted`` (path -> how many). Raises ``BoxError``."""
    found: dict[str, bytes] = {}
    for path, _, reader in _members(file, _top(file), set(wanted)):
        data = b""
        for chunk in reader.content():
            data += chunk[: wanted[path] - len(data)]
            if len(data) >= wanted[path]:
                break
        found[path] = data
    return found


def _top(file: BinaryIO) -> str:
    layout, _ = layout_of(file)
    first = next(iter(PayloadReader.of_box(file)), None) if layout == "folder" else None
    return first.path.split("/")[0] if first else ""


def _members(file: BinaryIO, top: str, wanted: Collection[str]) -> Iterator[tuple[str, TarEntry, PayloadReader]]:
    """The wanted files, as they come; what stands behind the last of them is not read."""
    left = set(wanted)
    if not left:
        return
    reader = PayloadReader.of_box(file)
    for entry in reader:
        path = _below(top, entry.path)
        if entry.kind == "file" and path in left:
            left.discard(path)
            yield path, entry, reader
            if not left:
                return


def _describe_original(file: BinaryIO) -> BoxDescription:
    """All of it has to be read: nothing at its front says what is in it."""
    top = _top(file)
    reader = PayloadReader.of_box(file)
    entries: list[BoxEntry] = []
    collected = _Collected()
    for entry in reader:
        path = _below(top, entry.path)
        if entry.kind == "folder" and path == "":
            continue
        sha256, size = None, entry.size
        if entry.kind == "file":
            content = _Hashing(reader.content())
            if reader.layout == "file" or _is_of_interest(path):
                collected.take(path, entry.size if entry.size >= 0 else _UNKNOWN_SIZE, content)
            for _ in content:
                pass
            sha256, size = content.digest, content.size
        entries.append(BoxEntry(path, entry.kind, entry.mode, size, sha256))
    return BoxDescription(reader.layout, top, None, tuple(entries), tuple(collected.models), collected.documents)


def _below(top: str, path: str) -> str:
    return path[len(top) + 1 :] if path.startswith(f"{top}/") else "" if path == top else path


def _is_of_interest(path: str) -> bool:
    return path.endswith(".gguf") or path in (PROVENANCE_NAME, SBOM_NAME)


class _Hashing:
    """Chunks on their way, counted and hashed."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._state = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.size += len(chunk)
        self._state.update(chunk)
        return chunk

    @property
    def digest(self) -> Digest:
        return Digest(self._state.hexdigest())


class _Collected:
    """The models and documents met so far."""

    def __init__(self) -> None:
        self.models: list[BoxModel] = []
        self.documents: dict[str, bytes] = {}

    def take(self, path: str, size: int, chunks: Iterator[bytes]) -> None:
        if path in (PROVENANCE_NAME, SBOM_NAME):
            if size <= MAX_DOCUMENT:
                self.documents[path] = b"".join(chunks)
            return
        stream = _Buffered(chunks)
        if not path and stream.peek(len(gguf.MAGIC)) != gguf.MAGIC:
            return  # a single file that is no model
        try:
            header = gguf.read_stream(stream, size, path)
        except VerificationError as error:
            self.models.append(BoxModel(path, {}, error.message))
        else:
            self.models.append(BoxModel(path, header.facts()))


class _Buffered:
    """Chunks as a stream to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def peek(self, size: int) -> bytes:
        self._fill(size)
        return self._rest[:size]

    def read(self, size: int = CHUNK, /) -> bytes:
        if not self._rest:
            self._fill(1)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _fill(self, size: int) -> None:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
