"""Take a GGUF's header apart, value by value and forward only. Knows the encoding, not what the values mean."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NoReturn, Protocol

from flatpack_build.errors import Place, VerificationError

_CHUNK = 256 * 1024
STRING, ARRAY, BOOL = 8, 9, 7
SCALARS: Mapping[int, struct.Struct] = {
    code: struct.Struct("<" + letter)
    for code, letter in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
"""The codes of a GGUF's plain values."""
_U32, _U64 = SCALARS[4], SCALARS[10]
MAX_STRING = 1 << 20
"""Longer strings of the metadata are checked to be there, and kept up to here."""
MAX_HEADER = 256 << 20
"""No header is longer (the largest tokenizers take 20 MB): a file that says so wants to keep a reader busy."""
MAX_TEXT = 64 << 20
"""Bytes of all texts that are kept, names included: in memory they may take four times as much."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Cursor:
    """Reads forward only, so that it serves a download as well as a file. ``size`` is what there is in all."""

    def __init__(self, stream: Readable, size: int, file: str) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._base = 0
        self._text = 0
        self.numbers = 0
        """How many items of arrays were kept so far, and how many arrays there were: whoever reads them counts."""
        self.arrays = 0
        self.size = size
        self.file = file

    @property
    def position(self) -> int:
        return self._base + self._at

    @property
    def left(self) -> int:
        return self.size - self.position

    def fail(self, reason: str, *, at: int | None = None) -> NoReturn:
        where = self.position if at is None else at
        raise VerificationError(
            f"not a usable GGUF: at byte {where}: {reason}",
            place=Place(self.file),
            hint="the file is damaged or not a GGUF model; fetch it again, or check what the source points to",
        )

    def _more(self, count: int) -> None:
        """Have ``count`` bytes in the buffer behind the position."""
        missing = count - (len(self._buffer) - self._at)
        if missing <= 0:
            return
        parts = [self._buffer[self._at :]]
        self._base += self._at
        self._at = 0
        while missing > 0:
            part = self._stream.read(max(_CHUNK, missing))
            if not part:
                self._buffer = b"".join(parts)
                self.fail("the file ends inside the header")
            parts.append(part)
            missing -= len(part)
        self._buffer = b"".join(parts)

    def need(self, count: int, what: str) -> None:
        if count > self.left:
            self.fail(f"{what} needs {count} bytes, the file has {self.left} left")
        if self.position + count > MAX_HEADER:
            self.fail(f"with {what} the header is longer than {MAX_HEADER} bytes")

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        self._more(count)
        start = self._at
        self._at += count
        return self._buffer[start : self._at]

    def skip(self, count: int, what: str) -> None:
        self.need(count, what)
        while count:
            step = min(count, _CHUNK)
            self._more(step)
            self._at += step
            count -= step

    def unpack(self, kind: struct.Struct, what: str) -> int | float:
        value: int | float = kind.unpack(self.take(kind.size, what))[0]
        return value

    def u32(self, what: str) -> int:
        return int(self.unpack(_U32, what))

    def u64(self, what: str) -> int:
        return int(self.unpack(_U64, what))

    def text(self, what: str, *, limit: int) -> str:
        at = self.position
        length = self.u64(f"the length of {what}")
        if length > limit:
            self.fail(f"{what} is {length} bytes long; at most {limit} are allowed", at=at)
        data = self._kept(length, what)
        try:
            return data.decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8", at=at)

    def long_text(self, what: str) -> str:
        """A string of any length, kept up to ``MAX_STRING`` bytes. What is not UTF-8 in it is replaced."""
        length = self.u64(f"the length of {what}")
        self.need(length, what)
        kept = self._kept(min(length, MAX_STRING), what)
        self.skip(length - len(kept), what)
        return kept.decode(errors="replace")

    def _kept(self, count: int, what: str) -> bytes:
        self._text += count
        if self._text > MAX_TEXT:
            self.fail(f"with {what} its texts are longer than {MAX_TEXT} bytes")
        return self.take(count, what)

    def skip_texts(self, count: int, what: str) -> None:
        """``count`` strings, unread. A tokenizer has some hundred thousand: this loop is what a header costs."""
        unpack = _U64.unpack_from
        for _ in range(count):
            start = self._at
            if len(self._buffer) - start < 8:
                self.need(8, what)
                self._more(8)
                start = self._at
            length: int = unpack(self._buffer, start)[0]
            end = start + 8 + length
            if end <= len(self._buffer):
                self._at = end
            else:
                self._at = start + 8
                self.skip(length, what)
