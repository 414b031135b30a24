"""A box together with what it says about its own making. Verifies first; knows no builder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flatpack_build.box import contents
from flatpack_build.box.checked import check_open_box
from flatpack_build.box.container import VerifiedBox
from flatpack_build.box.description import read_files
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.box.provenance import PROVENANCE_NAME, read_statement
from flatpack_build.box.trust import TrustPolicy, judge_open_box
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


def read_recorded(box: Path, policy: TrustPolicy) -> RecordedBox:
    """Verify ``box``, every file in it included, and read its provenance. Raises ``BoxError``."""
    with contents.open_box(box) as file:
        verified = judge_open_box(file, policy).verified
        if verified is None:
            raise BoxError(
                "the box is signed by nobody who is known here, so what it says about itself may be anybody's word",
                hint="name the key of whoever made it: --key FILE.pub.pem",
            )
        check_open_box(file, verified, verified.manifest)
        if verified.manifest is None:
            raise BoxError("the box is one of the original Flatpack: what it was made from is not recorded")
        found = read_files(file, {PROVENANCE_NAME: MAX_PROVENANCE})
        if PROVENANCE_NAME not in found:
            raise BoxError(f"the box has no {PROVENANCE_NAME}: what it was made from is not recorded")
        digest = _sha256(file, verified.payload_size)
        return RecordedBox(verified, verified.manifest, digest, read_statement(found[PROVENANCE_NAME]))


def read_beside(path: Path) -> Mapping[str, Json]:
    """A provenance that stands beside a box. Nobody signed it. Raises ``BoxError``."""
    try:
        with open(path, "rb") as file:
            return read_statement(file.read(MAX_PROVENANCE))
    except BoxError as error:
        raise BoxError(error.message, place=Place(str(path)), hint=error.hint) from error
    except OSError as error:
        raise BoxError(f"it cannot be read: {error.strerror}", place=Place(str(path))) from error


def _sha256(file: BinaryIO, size: int) -> Digest:
    """Of the first ``size`` bytes: boxes may be signed over another hash."""
    state = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        state.update(chunk)
        size -= len(chunk)
    return Digest(state.hexdigest())
