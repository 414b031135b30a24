"""A box together with what it says about its own making. Verifies first; knows no builder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flatpack_build.box import contents
from flatpack_build.box.container import SignedPayload, VerifiedBox, verify_open_box
from flatpack_build.box.keys import PublicKey
from flatpack_build.box.payload import PayloadFile, PayloadManifest
from flatpack_build.box.provenance import PROVENANCE_NAME, read_statement
from flatpack_build.digest import Digest, Json
from flatpack_build.errors import BoxError, Place

MAX_PROVENANCE = 32 * 1024 * 1024
"""Bytes of a provenance that is read."""
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class RecordedBox:
    """``payload`` is the sha256 of the compressed payload, ``statement`` the provenance inside."""

    verified: VerifiedBox
    manifest: PayloadManifest
    payload: Digest
    statement: Mapping[str, Json]


def read_recorded(box: Path, public_keys: Sequence[PublicKey]) -> RecordedBox:
    """Verify ``box``, every file in it included, and read its provenance. Raises ``BoxError``."""
    chunks: list[bytes] = []

    def sink(file: PayloadFile) -> Callable[[bytes], object]:
        return chunks.append if file.path == PROVENANCE_NAME and file.size <= MAX_PROVENANCE else _ignore

    with contents.open_box(box) as file:
        verified = verify_open_box(file, public_keys)
        payload = SignedPayload(file, verified)
        if verified.manifest is None:
            raise BoxError("the box is one of the original Flatpack: what it was made from is not recorded")
        manifest = contents.check_contents(payload, sink=sink)
        payload.finish()
        digest = _sha256(file, verified.payload_size)
        if not chunks:
            raise BoxError(f"the box has no {PROVENANCE_NAME}: what it was made from is not recorded")
        return RecordedBox(verified, manifest, digest, read_statement(b"".join(chunks)))


def read_beside(path: Path) -> Mapping[str, Json]:
    """A provenance that stands beside a box. Nobody signed it. Raises ``BoxError``."""
    try:
        with open(path, "rb") as file:
            return read_statement(file.read(MAX_PROVENANCE))
    except BoxError as error:
        raise BoxError(error.message, place=Place(str(path)), hint=error.hint) from error
    except OSError as error:
        raise BoxError(f"it cannot be read: {error.strerror}", place=Place(str(path))) from error


def _ignore(_chunk: bytes) -> None: ...


def _sha256(file: BinaryIO, size: int) -> Digest:
    """Of the first ``size`` bytes: boxes may be signed over another hash."""
    state = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        state.update(chunk)
        size -= len(chunk)
    return Digest(state.hexdigest())
