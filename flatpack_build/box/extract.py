"""Unpacking a box: nothing is written before its signature holds, and nothing is left unless all of it is right."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import BinaryIO

from flatpack_build.box import contents
from flatpack_build.box.container import SUFFIX, SignedPayload, VerifiedBox, verify_open_box
from flatpack_build.box.keys import PublicKey
from flatpack_build.box.landing import check_target, free_space, landing
from flatpack_build.box.limits import DEFAULT_LIMITS, Limits
from flatpack_build.box.payload import EXECUTABLE_MODE, FILE_MODE, MANIFEST_NAME
from flatpack_build.errors import BoxError, Place


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
    """Verify ``box`` and unpack what is in its top folder as ``folder``.

    It is unpacked into a temporary folder beside, in which every path, mode, size and digest is compared with the
    payload manifest, and which is renamed at the end. ``folder`` must not exist; with ``replace`` it may, and is
    swapped then, so that there is always a whole one. ``allow_unlisted`` admits boxes of the original Flatpack, which
    have no manifest; a single file among them comes out named as the box. ``durable`` waits for the disk. Raises
    ``BoxError``; then everything is as it was.
    """
    check_target(folder, replace=replace)
    with contents.open_box(box) as file:
        verified = verify_open_box(file, public_keys)
        if verified.manifest is None and not allow_unlisted:
            raise BoxError(
                f"the box has no {MANIFEST_NAME} to check its files against",
                hint="the original Flatpack makes such boxes; they are unpacked only when this is asked for",
            )
        try:
            limits = _within_disk(limits, folder, verified)
            with landing(folder, replace=replace, durable=durable) as top:
                _unpack(file, verified, top, limits, box.name.removesuffix(SUFFIX))
        except OSError as error:
            hint = "make room on the disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            place = Place(str(folder))
            raise BoxError(f"the box cannot be unpacked: {error.strerror}", place=place, hint=hint) from error
    return verified


def _within_disk(limits: Limits, folder: Path, verified: VerifiedBox) -> Limits:
    free = free_space(folder)
    total = free if limits.total_size is None else limits.total_size
    size = verified.manifest.size if verified.manifest else 0
    if size > total:
        raise BoxError(
            f"the box holds {size:,} bytes, and {total:,} may be unpacked here", hint="make room on the disk"
        )
    return changed(limits, total_size=total)


def _unpack(file: BinaryIO, verified: VerifiedBox, top: Path, limits: Limits, name: str) -> None:
    payload = SignedPayload(file, verified)
    with FolderSink(top) as sink:
        if verified.manifest is None:
            contents.read_unlisted(payload, name, sink, limits=limits)
        else:
            manifest = contents.check_contents(payload, sink=sink, limits=limits)
            sink.file(MANIFEST_NAME, FILE_MODE, 0)(manifest.encode())
    payload.finish()


class FolderSink:
    """Writes files and folders below ``top``, which nobody else writes to, with modes that no umask changes."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._file: BinaryIO | None = None

    def file(self, path: str, mode: int, size: int) -> contents.Write:
        self._close()
        self.folder(os.path.dirname(path))
        fd = os.open(self._top / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = open(fd, "wb")  # noqa: SIM115 - closed with the next one
        os.fchmod(fd, mode)
        return self._file.write

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
        self._close()

    def _close(self) -> None:
        if self._file:
            file, self._file = self._file, None
            file.close()
