"""What is in an open box, read to its end and compared with its manifest. Whether to trust it was judged before.

What is read is what was judged: a file that somebody changes in between is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from flatpack_build.box import contents
from flatpack_build.box.container import VerifiedBox, verify_open_box
from flatpack_build.box.keys import PublicKey
from flatpack_build.box.limits import DEFAULT_LIMITS, Limits
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.box.reading import Beginning, payload_of
from flatpack_build.errors import BoxError

_CHUNK = 1024 * 1024


class SignedPayload(Beginning):
    """The payload of an open box that was verified, hashed again as it is read."""

    def __init__(self, file: BinaryIO, verified: VerifiedBox) -> None:
        super().__init__(file, verified.payload_size)
        self._state = verified.hash.new()
        self._expected = verified.payload_digest

    def read(self, size: int = -1, /) -> bytes:
        data = super().read(size)
        self._state.update(data)
        return data

    def finish(self) -> None:
        """Read what is left, and raise ``BoxError`` unless all that was read is what was verified."""
        while self.read(_CHUNK):
            pass
        if self._state.hexdigest() != self._expected:
            raise BoxError("the box changed while it was read")


def verify_contents(box: Path, public_keys: Sequence[PublicKey]) -> VerifiedBox:
    """``verify_box``, and then check every file in the archive against the payload manifest. Raises ``BoxError``."""
    with contents.open_box(box) as file:
        verified = verify_open_box(file, public_keys)
        check_open_box(file, verified, verified.manifest)
        return verified


def check_open_box(
    file: BinaryIO,
    verified: VerifiedBox | None,
    manifest: PayloadManifest | None,
    *,
    name: str = "the file",
    sink: contents.Sink | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Check every file of an open box against its ``manifest``; of one of the original Flatpack, which has none, that
    all of it can be read and nothing in it is dangerous.

    ``verified`` is ``None`` where nobody vouches for the box: then it only agrees with itself. ``sink`` receives the
    files; ``name`` is what the file of a single-file box is called. Raises ``BoxError``.
    """
    payload = SignedPayload(file, verified) if verified else payload_of(file)
    if manifest is None:
        contents.read_unlisted(payload, name, sink, limits=limits)
    else:
        contents.check_contents(payload, manifest, sink=sink, limits=limits)
    if isinstance(payload, SignedPayload):
        payload.finish()
