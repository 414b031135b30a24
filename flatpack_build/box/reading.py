"""Read the payload of any box, front to back: ours, the original's folders, and its single files.

Looks at the payload only: what is read was not verified by this. Writes no files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, Literal

from flatpack_build.box import tar
from flatpack_build.box.contents import decompressed, require_frame

FLATPACK_NAME = re.compile(r"[\w-]+")

Layout = Literal["folder", "file"]


class PayloadReader:
    """A payload as a stream of entries. ``for entry in reader`` gives them, ``reader.content()`` the bytes of the last.

    Paths are as the archive spells them, top folder included. A payload that is no archive is one file without a name,
    of a size that is only known (``-1``: not) where its frame says it. Raises ``BoxError`` for what is neither.
    """

    def __init__(self, file: tar.Readable, layout: Layout, size: int) -> None:
        self.layout = layout
        self._stream = decompressed(file)
        self._tar = tar.TarReader(self._stream) if layout == "folder" else None
        self._size = size

    @classmethod
    def of_box(cls, file: BinaryIO, stream: tar.Readable | None = None) -> PayloadReader:
        """The payload of an open box, wherever its position; ``stream`` takes the place of the file as it is read."""
        at = file.tell()
        layout, size = layout_of(file)
        file.seek(at if stream else 0)
        return cls(stream or file, layout, size)

    def __iter__(self) -> Iterator[tar.TarEntry]:
        if self._tar is None:
            yield tar.TarEntry("", "file", 0o644, self._size)
            return
        yield from self._tar
        self._tar.finish()

    def content(self) -> Iterator[bytes]:
        """What was not read yet of the last entry, in chunks of at most 1 MiB."""
        if self._tar is not None:
            yield from self._tar.content()
            return
        while data := self._stream.read(tar.CHUNK):
            yield data


def layout_of(file: BinaryIO) -> tuple[Layout, int]:
    """Whether an open box holds a folder or a single file, and the size of what its frame holds (-1: it does not say)."""
    import zstandard  # heavy

    require_frame(file)
    head = os.pread(file.fileno(), 18, 0)
    try:
        size = zstandard.frame_content_size(head)
    except zstandard.ZstdError:
        size = -1
    file.seek(0)
    return ("folder" if tar.is_header(decompressed(file).read(tar.BLOCK)) else "file"), size


def top_folder(file: BinaryIO, stream: tar.Readable | None = None) -> str | None:
    """The name of the one folder that an open box holds: a flatpack's name in the boxes of the original. ``None``: none."""
    reader = PayloadReader.of_box(file, stream)
    if reader.layout == "file":
        return None
    tops = {entry.path.split("/")[0] for entry in reader}
    name = tops.pop() if len(tops) == 1 else ""
    return name if FLATPACK_NAME.fullmatch(name) else None
