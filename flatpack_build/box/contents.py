"""What is inside a box's payload, read as a stream: its manifest, its entries, and whether the two agree.

Looks at the payload only: whether anybody signed it is for ``container`` to say. Writes no files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from flatpack_build.box import tar
from flatpack_build.box.frame import MAGIC
from flatpack_build.box.payload import EXECUTABLE_MODE, FILE_MODE, MANIFEST_NAME, PayloadFile, PayloadManifest
from flatpack_build.errors import BoxError, Place

MAX_WINDOW = 128 * 1024 * 1024
"""Memory that a frame may ask of whoever decompresses it: the limit of the zstd command, too."""
MAX_MANIFEST = 32 * 1024 * 1024
"""Bytes of ``payload.json``: some 200,000 files."""
_READ_SIZE = 256 * 1024


class _Payload:
    """The decompressed payload of an open box; errors of zstd come out as ``BoxError``."""

    def __init__(self, file: tar.Readable) -> None:
        import zstandard  # heavy

        self._error = zstandard.ZstdError
        # Without this it would go on behind the frame, where the separator and the signature stand.
        self._stream = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
            file,  # type: ignore[arg-type]  # it asks for read() only
            read_size=_READ_SIZE,
            read_across_frames=False,
            closefd=False,
        )

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except (self._error, MemoryError) as error:
            raise BoxError(f"the payload cannot be decompressed: {error}") from None


def decompressed(file: tar.Readable) -> tar.Readable:
    """The payload that begins where ``file`` stands, as the archive (or single file) that it is."""
    return _Payload(file)


@contextlib.contextmanager
def open_box(box: Path) -> Iterator[BinaryIO]:
    """``box``, open for reading. What goes wrong inside names it; raises ``BoxError``, also where it cannot be read."""
    place = Place(str(box))
    try:
        with open(box, "rb") as file:
            yield file
    except BoxError as error:
        raise BoxError(error.message, place=error.place or place, hint=error.hint) from error
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
    require_frame(file)
    file.seek(0)
    if not tar.is_header(_Payload(file).read(tar.BLOCK)):
        return None  # a single file, compressed without an archive around it
    file.seek(0)
    reader = tar.TarReader(_Payload(file))
    entries = iter(reader)
    top, first = next(entries, None), next(entries, None)
    if not top or not first or top.kind != "folder" or first.path != f"{top.path}/{MANIFEST_NAME}":
        return None
    return _read_manifest(reader, top, first)


def read_payload_manifest(box: Path) -> PayloadManifest:
    """The payload manifest of ``box``, from its head only. Raises ``BoxError``, also where there is none."""
    manifest = find_payload_manifest(box)
    if manifest is None:
        raise BoxError(f"the box has no {MANIFEST_NAME}", place=Place(str(box)))
    return manifest


def list_entries(box: Path) -> Iterator[tar.TarEntry]:
    """All that is in the archive of ``box``, safe or not, in its order; nothing is verified. Raises ``BoxError``."""
    with open_box(box) as file:
        require_frame(file)
        yield from tar.TarReader(_Payload(file))


Sink = Callable[[PayloadFile], Callable[[bytes], object]]
"""For each file of the payload, where its chunks go."""


def check_contents(
    file: tar.Readable, *, sink: Sink | None = None, folder: Callable[[str], object] | None = None
) -> PayloadManifest:
    """Read a payload (``file``: that, and nothing behind it) to its end and compare it with its manifest.

    The archive must be exactly the one that ``write_payload`` makes of the manifest: the same paths, kinds, modes,
    sizes and digests in the same order, nothing more. ``sink`` receives each file, ``folder`` each empty folder, after
    everything but its digest has been checked. Raises ``BoxError``.
    """
    reader = tar.TarReader(_Payload(file))
    entries = iter(reader)
    top, first = next(entries, None), next(entries, None)
    if not top or not first or top.kind != "folder" or first.path != f"{top.path}/{MANIFEST_NAME}":
        raise BoxError(f"the box does not begin with its {MANIFEST_NAME}")
    manifest = _read_manifest(reader, top, first)
    expected: dict[str, PayloadFile | str] = {}
    for item in manifest.order():
        expected[f"{manifest.flatpack}/{item if isinstance(item, str) else item.path}"] = item
    waiting = deque(expected)
    for entry in entries:
        wanted = expected.get(entry.path)
        if wanted is None:
            raise BoxError(f"{entry.path!r} is in the box but not in its manifest")
        if not waiting or entry.path < waiting[0]:
            raise BoxError(f"{entry.path!r} stands in the box twice, or not in its place")
        if (missing := waiting.popleft()) != entry.path:
            raise BoxError(f"{missing!r} is in the manifest but not in the box")
        if isinstance(wanted, str):
            if entry.kind != "folder" or entry.mode != EXECUTABLE_MODE:
                raise BoxError(f"{entry.path!r} is not the folder that the manifest says it is")
            if folder:
                folder(wanted)
            continue
        if entry.kind != "file":
            raise BoxError(f"{entry.path!r} is no plain file in the box ({entry.kind}), and one in its manifest")
        if (entry.mode, entry.size) != (wanted.mode, wanted.size):
            raise BoxError(f"{entry.path!r} has not the mode and the size that its manifest says")
        digest = hashlib.sha256()
        write = sink(wanted) if sink else None
        for chunk in reader.content():
            digest.update(chunk)
            if write:
                write(chunk)
        if digest.hexdigest() != wanted.sha256:
            raise BoxError(f"{entry.path!r} has not the digest that its manifest says")
    if waiting:
        raise BoxError(f"{waiting[0]!r} is in the manifest but not in the box")
    reader.finish()
    return manifest


def _read_manifest(reader: tar.TarReader, top: tar.TarEntry, entry: tar.TarEntry) -> PayloadManifest:
    if entry.kind != "file" or entry.mode != FILE_MODE or top.mode != EXECUTABLE_MODE:
        raise BoxError(f"the {MANIFEST_NAME} of the box is not a plain file in a plain folder")
    if entry.size > MAX_MANIFEST:
        raise BoxError(f"the {MANIFEST_NAME} of the box is too large: {entry.size} bytes")
    manifest = PayloadManifest.decode(b"".join(reader.content()))
    if manifest.flatpack != top.path:
        raise BoxError(f"the box's folder {top.path!r} is not named as its flatpack {manifest.flatpack!r}")
    return manifest
