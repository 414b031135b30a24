"""Unpacking a box: nothing is written before its signature holds, and nothing is left unless all of it is right."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from flatpack_build import fs
from flatpack_build.box import contents
from flatpack_build.box.container import SignedPayload, VerifiedBox, verify_open_box
from flatpack_build.box.keys import PublicKey
from flatpack_build.box.payload import MANIFEST_NAME, PayloadFile
from flatpack_build.errors import BoxError, Place


def extract_verified(box: Path, folder: Path, public_keys: Sequence[PublicKey]) -> VerifiedBox:
    """Verify ``box`` and unpack what is in its top folder as ``folder``, which must not exist.

    It is unpacked into a temporary folder beside, in which every path, mode, size and digest is compared with the
    payload manifest, and which is renamed at the end. Raises ``BoxError``; then nothing is left behind.
    """
    if os.path.lexists(folder):
        raise BoxError("the folder to unpack into is there already", place=Place(str(folder)), hint="remove it first")
    with contents.open_box(box) as file:
        verified = verify_open_box(file, public_keys)
        if verified.manifest is None:
            raise BoxError(f"the box has no {MANIFEST_NAME} to check its files against")
        try:
            with fs.temporary_folder(folder.parent, prefix=f".{folder.name}.") as temporary:
                top = temporary / "top"
                top.mkdir(mode=0o755)
                _unpack(SignedPayload(file, verified), top)
                top.rename(folder)
        except OSError as error:
            raise BoxError(f"the box cannot be unpacked: {error.strerror}", place=Place(str(folder))) from error
    return verified


def _unpack(payload: SignedPayload, top: Path) -> None:
    with contextlib.ExitStack() as open_files:

        def sink(file: PayloadFile) -> Callable[[bytes], object]:
            open_files.close()
            path = top / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            stream = open_files.enter_context(open(fd, "wb"))
            os.fchmod(fd, file.mode)
            return stream.write

        def make_folder(path: str) -> None:
            (top / path).mkdir(parents=True, exist_ok=True)

        manifest = contents.check_contents(payload, sink=sink, folder=make_folder)
    payload.finish()
    (top / MANIFEST_NAME).write_bytes(manifest.encode())
