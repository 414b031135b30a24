"""Files of the user's own that flatpack.lock pins: whether they still are what was locked. Pure; reads no file.

The fetch step finds that out as well, from the bytes that it copies. Here it is known before anything runs, and by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from flatpack_build.action import Action, SourceFile
from flatpack_build.errors import VerificationError
from flatpack_build.fingerprint import InputDigest
from flatpack_build.params import FetchParams


def check_pinned(flatpack: str, action: Action, inputs: Mapping[str, InputDigest]) -> None:
    """Raises ``VerificationError`` where ``action`` fetches a file whose digest is not the locked one."""
    source = action.inputs.get("file")
    if not isinstance(action.params, FetchParams) or not isinstance(source, SourceFile):
        return
    (expected,) = action.params.files.values()
    got = inputs["file"].digest
    if got != expected:
        raise VerificationError(
            f"{source.path} is not what was locked\n  expected sha256 {expected}\n  got      sha256 {got}",
            hint=f"it was changed since flatpack.lock was made; if that is right, run: flatpack lock {flatpack}",
        )
