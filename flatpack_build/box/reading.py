"""Read the payload of any box, front to back: ours, the original's folders, and its single files.

Looks at the payload only: what is read was not verified by this. Writes no files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, Literal

from flatpack_build import events
from flatpack_build.box import tar
from flatpack_build.box.contents import require_frame
from flatpack_build.box.frame import FrameError, frame_end
from flatpack_build.box.limits import DEFAULT_LIMITS
from flatpack_build.box.stream import PayloadStream
from flatpack_build.errors import BoxError

FLATPACK_NAME = re.compile(r"[\w-]+")

_PROGRESS_STEP = 8 * tar.CHUNK

Layout = Literal["folder", "file"]


class PayloadReader:
    """A payload as a stream of entries. ``for entry in reader`` gives them, ``reader.content()`` the bytes of the last.

    Paths are as the archive spells them, top folder included. A payload that is no archive is one file without a name,
    of a size that is only known (``-1``: not) where its frame says it. Raises ``BoxError`` for what is neither.
    """

    def __init__(self, file: tar.Readable, layout: Layout, size: int) -> None:
        self.layout = layout
        self._stream = PayloadStream(file, DEFAULT_LIMITS)
        self._tar = tar.TarReader(self._stream) if layout == "folder" else None
        self._size = size

    @classmethod
    def of_box(cls, file: BinaryIO, stream: tar.Readable | None = None) -> PayloadReader:
        """The payload of an open box, wherever its position; ``stream`` takes the place of the file as it is read."""
        at = file.tell()
        layout, size = layout_of(file)
        if stream is not None:
            file.seek(at)
            return cls(stream, layout, size)
        return cls(payload_of(file), layout, size)

    def __iter__(self) -> Iterator[tar.TarEntry]:
        if self._tar is None:
            yield tar.TarEntry("", "file", 0o644, self._size)
            return
        names = 0
        for count, entry in enumerate(self._tar):
            if count == DEFAULT_LIMITS.entries:
                raise BoxError(f"the box has more than {count:,} files and folders in it")
            names += len(entry.path)
            if names > DEFAULT_LIMITS.names:
                raise BoxError(f"the paths in the box have more than {DEFAULT_LIMITS.names:,} characters together")
            yield entry
        self._tar.finish()

    def content(self) -> Iterator[bytes]:
        """What was not read yet of the last entry, in chunks of at most 1 MiB."""
        if self._tar is not None:
            yield from self._tar.content()
            return
        while data := self._stream.read(tar.CHUNK):
            yield data


class Beginning:
    """The first ``size`` bytes of an open file, read once from front to back. Behind them stand separator and signature."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = self._left = size
        self._told = 0
        file.seek(0)

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        done = self._size - self._left
        if done - self._told >= _PROGRESS_STEP:
            self._told = done
            events.progress(done, self._size)
        return data


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def payload_of(file: BinaryIO) -> Beginning:
    """The payload of an open box, by where its frame ends: nobody vouches for it. Raises ``BoxError``."""
    try:
        end = frame_end(file.fileno(), _size(file))
    except FrameError as error:
        raise BoxError(f"the payload is damaged: {error}") from None
    return Beginning(file, end)


def layout_of(file: BinaryIO) -> tuple[Layout, int]:
    """Whether an open box holds a folder or a single file, and the size of what its frame holds (-1: it does not say)."""
    import zstandard  # heavy

    require_frame(file)
    head = os.pread(file.fileno(), 18, 0)
    try:
        size = zstandard.frame_content_size(head)
    except zstandard.ZstdError:
        size = -1
    is_folder = size != 0 and tar.is_header(PayloadStream(payload_of(file), DEFAULT_LIMITS).read(tar.BLOCK))
    return ("folder" if is_folder else "file"), size


def top_folder(file: BinaryIO, stream: tar.Readable | None = None) -> str | None:
    """The name of the one folder that an open box holds: a flatpack's name in the boxes of the original. ``None``: none."""
    reader = PayloadReader.of_box(file, stream)
    if reader.layout == "file":
        return None
    tops = {entry.path.split("/")[0] for entry in reader}
    name = tops.pop() if len(tops) == 1 else ""
    return name if FLATPACK_NAME.fullmatch(name) else None
