"""Unpacking a box: nothing is written before its signature holds, and nothing is left unless all of it is right."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import BinaryIO

from flatpack_build.box import contents
from flatpack_build.box.checked import check_open_box
from flatpack_build.box.container import SUFFIX, VerifiedBox, verify_open_box
from flatpack_build.box.keys import PublicKey
from flatpack_build.box.landing import check_target, free_space, landing
from flatpack_build.box.limits import DEFAULT_LIMITS, Limits
from flatpack_build.box.payload import EXECUTABLE_MODE, FILE_MODE, MANIFEST_NAME, MAX_MANIFEST, PayloadManifest
from flatpack_build.errors import BoxError, Place


@dataclass(frozen=True)
class Unpacked:
    """What came out of a box: ``files``, and their ``size`` in bytes. Its list of files, ``payload.json``, is not counted."""

    files: int
    size: int


def extract_verified(
    box: Path,
    folder: Path,
    public_keys: Sequence[PublicKey],
    *,
    limits: Limits = DEFAULT_LIMITS,
    replace: bool = False,
    allow_unlisted: bool = False,
    durable: bool = True,
) -> VerifiedBox:
    """Verify ``box`` by these keys and unpack what is in its top folder as ``folder``, as ``extract_open_box`` does.

    A single file of the original Flatpack comes out named as the box.
    """
    check_target(folder, replace=replace)
    with contents.open_box(box) as file:
        verified = verify_open_box(file, public_keys)
        extract_open_box(
            file,
            verified,
            verified.manifest,
            folder,
            name=box.name.removesuffix(SUFFIX),
            limits=limits,
            replace=replace,
            allow_unlisted=allow_unlisted,
            durable=durable,
        )
    return verified


def extract_open_box(
    file: BinaryIO,
    verified: VerifiedBox | None,
    manifest: PayloadManifest | None,
    folder: Path,
    *,
    name: str,
    limits: Limits = DEFAULT_LIMITS,
    replace: bool = False,
    allow_unlisted: bool = False,
    durable: bool = True,
) -> Unpacked:
    """Unpack an open box that was judged: ``verified`` and ``manifest`` are what came of that; ``verified`` is ``None``
    where nobody vouches for the box. Then all is as strict but for the signature.

    It is unpacked into a temporary folder beside, in which every path, mode, size and digest is compared with the
    payload manifest, and which is renamed at the end. ``folder`` must not exist; with ``replace`` it may, and is
    swapped then, so that there is always a whole one. ``allow_unlisted`` admits boxes of the original Flatpack, which
    have no manifest; a single file among them comes out as ``name``. ``durable`` waits for the disk. Raises
    ``BoxError``; then everything is as it was.
    """
    if manifest is None and not allow_unlisted:
        raise BoxError(
            f"the box has no {MANIFEST_NAME} to check its files against",
            hint="the original Flatpack makes such boxes; --allow-unlisted unpacks them all the same",
        )
    try:
        limits = _within_disk(limits, folder, manifest)
        with landing(folder, replace=replace, durable=durable) as top, FolderSink(top) as sink:
            check_open_box(file, verified, manifest, name=name, sink=sink, limits=limits)
            unpacked = Unpacked(sink.files, sink.size)
            if manifest is not None:
                sink.file(MANIFEST_NAME, FILE_MODE, 0)(manifest.encode())
    except OSError as error:
        hint = "make room on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        place = Place(str(folder))
        raise BoxError(f"the box cannot be unpacked: {error.strerror}", place=place, hint=hint) from error
    return unpacked


def unboxed_flatpack(folder: Path) -> str | None:
    """The flatpack that was unpacked as ``folder``; ``None`` where that is not what it is."""
    try:
        with open(folder / MANIFEST_NAME, "rb") as file:
            return PayloadManifest.decode(file.read(MAX_MANIFEST)).flatpack
    except (OSError, BoxError):
        return None


def _within_disk(limits: Limits, folder: Path, manifest: PayloadManifest | None) -> Limits:
    free = free_space(folder)
    total = free if limits.total_size is None else limits.total_size
    size = manifest.size if manifest else 0
    if size > total:
        raise BoxError(
            f"the box holds {size:,} bytes, and {total:,} may be unpacked here", hint="make room on the disk"
        )
    return changed(limits, total_size=total)


class FolderSink:
    """Writes files and folders below ``top``, which nobody else writes to, with modes that no umask changes."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._file: BinaryIO | None = None
        self.files = 0
        self.size = 0

    def file(self, path: str, mode: int, size: int) -> contents.Write:
        self.close()
        self.folder(os.path.dirname(path))
        fd = os.open(self._top / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = open(fd, "wb")  # noqa: SIM115 - closed with the next one
        os.fchmod(fd, mode)
        self.files += 1
        return self._write

    def folder(self, path: str) -> None:
        missing = []
        while path and not os.path.isdir(self._top / path):
            missing.append(path)
            path = os.path.dirname(path)
        for part in reversed(missing):
            (self._top / part).mkdir()
            (self._top / part).chmod(EXECUTABLE_MODE)

    def __enter__(self) -> FolderSink:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        assert self._file
        self._file.write(data)
        self.size += len(data)

    def close(self) -> None:
        """Have the last file written."""
        if self._file:
            file, self._file = self._file, None
            file.close()
