"""Tar headers, written in one way only and read strictly, as a stream. Knows no box, no manifest and no file system.

The standard library's ``tarfile`` is not used: what it writes may change with Python, and it reads far more than a box
may hold (links, devices, headers of any size, all kept in memory).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from flatpack_build.box.paths import shown
from flatpack_build.errors import BoxError

BLOCK = 512
RECORD = 20 * BLOCK
MTIME = 315532800
"""1 January 1980, the time of everything in a box: the earliest that zip files, and so wheels, can express."""
MAX_EXTENSION = 64 * 1024
"""Bytes of one extended header: a path and a size fit many times over."""
CHUNK = 1024 * 1024

_LARGEST = 0o77777777777
_OCTAL = re.compile(rb"[ \0]*([0-7]+)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=]+)=")
_EXTENSIONS = (b"x", b"L", b"K")
"""What precedes an entry: its PAX header, GNU's long path, GNU's long target of a link (of which none is unpacked)."""
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"5": "folder",
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "device",
    b"4": "device",
    b"6": "pipe",
    b"S": "sparse file",
}

Kind = Literal["file", "folder", "hard link", "symbolic link", "device", "pipe", "sparse file", "other"]


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TarEntry:
    """``path`` as the archive spells it, without the ``/`` at the end of a folder; ``size`` in bytes."""

    path: str
    kind: Kind
    mode: int
    size: int


def encode_header(path: str, kind: Literal["file", "folder"], mode: int, size: int) -> bytes:
    """The header blocks of one entry: plain USTAR where it can express it, preceded by a PAX header where not."""
    name = path.encode() + (b"/" if kind == "folder" else b"")
    extension = b""
    if len(name) > 100 or not name.isascii():
        extension += _pax_record(b"path", name)
        name = path.encode("ascii", "replace")[:100]
    if size > _LARGEST:
        extension += _pax_record(b"size", str(size).encode())
        size = 0
    block = _ustar(name, b"0" if kind == "file" else b"5", mode, size)
    if not extension:
        return block
    return _ustar(b"pax-header", b"x", 0o644, len(extension)) + extension + padding(len(extension)) + block


def padding(size: int) -> bytes:
    """The zeros between ``size`` bytes of content and the next block."""
    return bytes(-size % BLOCK)


def ending(size: int) -> bytes:
    """What closes an archive of ``size`` bytes so far: two empty blocks, up to a full record."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % RECORD)


def _pax_record(key: bytes, value: bytes) -> bytes:
    length = rest = len(key) + len(value) + 3
    while len(str(length)) + rest != length:
        length = len(str(length)) + rest
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(name: bytes, kind: bytes, mode: int, size: int) -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % MTIME,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(32 + 32 + 8 + 8 + 155 + 12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def is_header(block: bytes) -> bool:
    """Whether ``block`` is a tar header at all, by its checksum."""
    if len(block) != BLOCK or not (match := _OCTAL.fullmatch(block[148:156])):
        return False
    return int(match[1], 8) == sum(block[:148]) + sum(b" " * 8) + sum(block[156:])


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # GNU's way of writing sizes over 8 GiB
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if not match:
        raise BoxError("the archive in the box is damaged: a number in a tar header cannot be read")
    return int(match[1], 8)


class TarReader:
    """Walks an archive once, front to back, in the memory of one chunk. Raises ``BoxError`` for whatever is not tar.

    ``for entry in reader`` gives the entries; ``reader.content()`` the bytes of the last one, in chunks. What of it is
    not read is skipped.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = 0  # bytes of the entry's content not read yet
        self._padding = 0

    def __iter__(self) -> Iterator[TarEntry]:
        extended: dict[str, str] = {}
        while True:
            self._skip()
            block = self._exactly(BLOCK)
            if block == bytes(BLOCK):
                if extended:
                    raise BoxError("the archive in the box is damaged: it ends after an extended header")
                return
            if not is_header(block):
                raise BoxError("the archive in the box is damaged: a tar header has a wrong checksum")
            kind, size = block[156:157], _number(block[124:136])
            if kind in _EXTENSIONS:
                if size > MAX_EXTENSION:
                    raise BoxError(f"the archive in the box has an extended header of {size} bytes")
                data = self._exactly(size + len(padding(size)))[:size]
                if kind == b"x":
                    extended |= _parse_pax(data)
                elif kind == b"L":
                    extended["path"] = _text(data.rstrip(b"\0"))
                continue
            yield self._begin(block, size, extended)
            extended = {}

    def _begin(self, block: bytes, size: int, extended: dict[str, str]) -> TarEntry:
        name, prefix = block[:100].rstrip(b"\0"), block[345:500].rstrip(b"\0")
        if prefix and block[257:263] == b"ustar\0":
            name = prefix + b"/" + name
        path = extended.get("path") or _text(name)
        if "size" in extended:
            if not re.fullmatch("[0-9]{1,18}", extended["size"]):
                raise BoxError("the archive in the box is damaged: a size in a tar header cannot be read")
            size = int(extended["size"])
        kind = _KINDS.get(block[156:157], "other")
        if kind == "file" and path.endswith("/"):  # how tar programs older than USTAR say "folder"
            kind = "folder"
        if kind == "folder" and size:  # some programs skip such bytes, others take them for the next header
            raise BoxError(f"the archive in the box has a folder with content: {shown(path)}")
        self._left = size if kind == "file" else 0
        self._padding = -self._left % BLOCK
        return TarEntry(path.rstrip("/") if kind == "folder" else path, kind, _number(block[100:108]) & 0o7777, size)

    def content(self) -> Iterator[bytes]:
        """The rest of the last entry's bytes, in chunks of at most 1 MiB."""
        while self._left:
            data = self._stream.read(min(self._left, CHUNK))
            if not data:
                raise BoxError("the archive in the box ends in the middle of a file")
            self._left -= len(data)
            yield data

    def finish(self) -> None:
        """After the last entry: read on to the end of the stream, which must be empty blocks only."""
        while data := self._stream.read(CHUNK):
            if data.count(0) != len(data):
                raise BoxError("the archive in the box has something after its end")

    def _skip(self) -> None:
        for _ in self.content():
            pass
        self._exactly(self._padding)
        self._padding = 0

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                raise BoxError("the archive in the box is cut off")
            data += more
        return data


def _parse_pax(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise BoxError("the archive in the box is damaged: an extended tar header cannot be read")
        key = match[2]
        if key.startswith(b"GNU.sparse."):
            raise BoxError("the archive in the box has a sparse file")
        if key in (b"path", b"size"):  # times, owners and comments change nothing here
            found[key.decode()] = _text(data[match.end() : end - 1])
        at = end
    return found


def _text(data: bytes) -> str:
    if b"\0" in data:
        raise BoxError("the archive in the box has a path with a zero byte in it")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BoxError(f"the archive in the box has a path that is not UTF-8: {data[:160]!r}") from None
