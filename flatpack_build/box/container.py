"""The container: a payload, a separator, an RSA signature over the payload. Signs and verifies; unpacks nothing.

Everything streams: memory stays flat however big the box is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from flatpack_build import events, fs
from flatpack_build.box import contents, copying
from flatpack_build.box.frame import FrameError, frame_end
from flatpack_build.box.keys import PrivateKey, PublicKey
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.box.signature import SignatureHash, Signer, is_signed, possible_signers, sign_digest
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError, Place

SEPARATOR: Final = b"---SIGNATURE_SEPARATOR---"
SUFFIX: Final = ".fpk"

_HASH_CHUNK = 1024 * 1024
_PROGRESS_STEP = 16 * _HASH_CHUNK
_USUAL_SIGNATURES = (256, 384, 512, 768, 1024, 2048)
"""Bytes: where the separator is looked for when no given key has it in its place, to say what is wrong."""
_MAX_BLOCKS = 100_000
"""Steps through a file that nobody vouches for, only to say more exactly what is wrong with it: some 0.1 s."""


class UnknownSignerError(BoxError):
    """A box that looks whole, and whose signature none of the keys fits: by another key, or damaged."""


@dataclass(frozen=True)
class VerifiedBox:
    """A box whose signature holds. Sizes in bytes; ``payload_digest`` (hexadecimal) is over the compressed payload, by
    ``hash``; ``manifest`` is ``None`` for a box of the original Flatpack."""

    key_id: str
    hash: SignatureHash
    payload_size: int
    signature_size: int
    manifest: PayloadManifest | None
    payload_digest: str
    development: bool
    """Whether the public key says that it is for trying things out."""

    @property
    def box_size(self) -> int:
        return self.payload_size + len(SEPARATOR) + self.signature_size


@dataclass(frozen=True)
class SignedBox:
    """A box that was just made. ``digest`` is the sha256 of all its bytes, known for a signature with SHA-256 only;
    ``separator_inside``: its payload contains the separator by chance, and the original's verifier will refuse it."""

    payload_size: int
    digest: Digest | None
    separator_inside: bool


def sign_payload(
    payload: Path,
    box: Path,
    key: PrivateKey,
    hash: SignatureHash = SignatureHash.SHA256,
    *,
    durable: bool = True,
    move: bool = False,
    size: int | None = None,
    judged: VerifiedBox | None = None,
) -> SignedBox:
    """Write ``box``: the bytes of ``payload`` (one zstd frame, unchanged), the separator, the signature.

    The box appears whole or not at all, replacing what stood there; ``durable`` waits for the disk. What is signed is
    the copy, so it does not matter who writes to ``payload`` meanwhile. With ``move`` the caller gives ``payload``
    away: it becomes the box without being copied where that can be, and is gone afterwards. ``size`` (bytes) says how
    much of the file is payload where it is not all of it: a box is signed again that way. ``judged`` is what was
    verified of it, and nothing else is signed. Raises ``BoxError``.
    """
    try:
        box.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{box.name}.", suffix=".tmp", dir=box.parent)
        os.close(fd)
        try:
            moved = move and size is None and _move(payload, name)
            with open(name, "r+b", buffering=0) as file:
                signed, tail = _seal(file, payload, key, hash, moved=moved, size=size, judged=judged)
                file.seek(signed.payload_size)
                file.write(tail)
                os.fchmod(file.fileno(), 0o644)
                if durable:
                    os.fsync(file.fileno())
            os.replace(name, box)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        if move and not moved:
            payload.unlink()
        if durable:
            fs.fsync_folder(box.parent)
    except OSError as error:
        hint = "the disk is full" if error.errno == errno.ENOSPC else ""
        raise BoxError(f"the box cannot be written: {error.strerror}", place=Place(str(box)), hint=hint) from error
    if signed.separator_inside:
        events.note(
            f"the payload of {box.name} contains the separator: the original Flatpack's verifier will refuse it"
        )
    return signed


def _move(payload: Path, name: str) -> bool:
    """Whether ``payload`` could be renamed to ``name``, and is nobody else's: what is appended to it would show there."""
    if payload.stat().st_nlink > 1:
        return False
    try:
        os.chmod(payload, 0o600)
        os.unlink(name)  # renamed over another file, its bytes would have to reach the disk first on ext4
        os.replace(payload, name)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM):
            return False
        raise
    return True


def _seal(
    file: BinaryIO,
    payload: Path,
    key: PrivateKey,
    hash: SignatureHash,
    *,
    moved: bool,
    size: int | None,
    judged: VerifiedBox | None,
) -> tuple[SignedBox, bytes]:
    """Fill ``file`` from ``payload``, unless it has been ``moved`` there, and make what comes after the payload."""
    if moved:
        hashed = copying.hash_file(file.fileno(), hash.new(), SEPARATOR)
    else:
        with open(payload, "rb", buffering=0) as source:
            hashed = copying.copy_hashed(source.fileno(), file.fileno(), hash.new(), SEPARATOR, size=size)
    if judged is not None and _digest_by(judged.hash, hash, hashed, file) != judged.payload_digest:
        raise BoxError("the box changed after it was verified, so it is not signed", place=Place(str(payload)))
    _check_payload(file.fileno(), hashed.size, payload)
    contents.require_short_manifest(file)
    tail = SEPARATOR + sign_digest(hashed.state.digest(), key, hash)
    digest = None
    if hash is SignatureHash.SHA256:
        hashed.state.update(tail)
        digest = Digest(hashed.state.hexdigest())
    return SignedBox(hashed.size, digest, hashed.needle_found), tail


def _digest_by(wanted: SignatureHash, hash: SignatureHash, hashed: copying.Hashed, file: BinaryIO) -> str:
    """The digest of what was copied by another hash than it was copied with, or by the same."""
    if wanted is hash:
        return hashed.state.hexdigest()
    return _digests(file.fileno(), hashed.size, {wanted})[wanted].hex()


def verify_box(box: Path, public_keys: Sequence[PublicKey]) -> VerifiedBox:
    """Check that one of ``public_keys`` signed ``box``, then read its payload manifest.

    Refused with ``BoxError``: what is no box, has no signature, is signed by another key, or was changed. Nothing of
    the payload is decompressed before its signature holds.
    """
    with contents.open_box(box) as file:
        return verify_open_box(file, public_keys)


def verify_open_box(file: BinaryIO, public_keys: Sequence[PublicKey]) -> VerifiedBox:
    """``verify_box`` for a box that is open: what is done with ``file`` next is done with what was verified."""
    if not public_keys:
        raise BoxError("there is no public key to verify the box with", hint="--key FILE.pub.pem")
    fd = file.fileno()
    size = os.fstat(fd).st_size
    contents.require_frame(file)
    signers = list(_signers(fd, size, public_keys))
    if not signers:
        raise _unsigned(fd, size, public_keys)
    for signature_size in {signer.key.size for signer in signers}:
        payload_size = size - signature_size - len(SEPARATOR)
        signature = os.pread(fd, signature_size, size - signature_size)
        fitting = [signer for signer in signers if signer.key.size == signature_size]
        digests = _digests(fd, payload_size, {signer.hash for signer in fitting})
        for signer in fitting:
            if is_signed(digests[signer.hash], signature, signer):
                return _verified(file, payload_size, signer, digests[signer.hash])
    raise BoxError(
        f"the payload is damaged: it is not what the key {signers[0].key} signed",
        hint="fetch the box again; if that does not help, somebody changed it",
    )


def find_boxes(paths: Iterable[Path]) -> list[Path]:
    """The boxes that ``paths`` name: files as they are, folders with every ``.fpk`` below them, sorted by path."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        boxes = sorted(item for item in path.rglob(f"*{SUFFIX}") if item.is_file() and not item.name.startswith("."))
        if not boxes:
            raise BoxError("there is no box in the folder", place=Place(str(path)), hint=f"boxes end in {SUFFIX}")
        found += boxes
    return found


def signature_fault(file: BinaryIO, public_keys: Sequence[PublicKey] = ()) -> BoxError:
    """Why an open box does not verify with ``public_keys``, when its payload is not to be read for that."""
    fd = file.fileno()
    return _unsigned(fd, os.fstat(fd).st_size, public_keys)


def _signers(fd: int, size: int, keys: Sequence[PublicKey]) -> Iterator[Signer]:
    for signature_size in {key.size for key in keys}:
        if _has_separator(fd, size, signature_size):
            yield from possible_signers(os.pread(fd, signature_size, size - signature_size), keys)


def _has_separator(fd: int, size: int, signature_size: int) -> bool:
    at = size - signature_size - len(SEPARATOR)
    return at > 0 and os.pread(fd, len(SEPARATOR), at) == SEPARATOR


def _unsigned(fd: int, size: int, keys: Sequence[PublicKey]) -> BoxError:
    """Why no key fits, as exactly as can be told in no time."""
    tried = ", ".join(str(key) for key in keys) or "none"
    if any(_has_separator(fd, size, key.size) for key in keys):
        return UnknownSignerError(
            f"the box is signed by an unknown key, or its signature is damaged; keys tried: {tried}",
            hint="verify it with the public key of whoever made it",
        )
    for signature_size in _USUAL_SIGNATURES:
        if _has_separator(fd, size, signature_size):
            return UnknownSignerError(
                f"the box is signed by an unknown key, one of {8 * signature_size} bits; keys tried: {tried}",
                hint="verify it with the public key of whoever made it",
            )
    try:
        end = frame_end(fd, size, max_blocks=_MAX_BLOCKS)
    except FrameError as error:
        if error.cut:
            return BoxError("the box is cut off, and its signature with it", hint="fetch it again")
        return BoxError("the box has no signature at its end, and its payload is damaged", hint="fetch it again")
    if end == size:
        return BoxError("the box has no signature: it is a payload only", hint="sign it first")
    if os.pread(fd, len(SEPARATOR), end) == SEPARATOR:
        return BoxError(
            f"the box has no whole signature at its end: {size - end - len(SEPARATOR)} bytes follow the separator",
            hint="it was cut off, or something was added to it; fetch it again",
        )
    return BoxError("the box has no signature: something else stands after its payload", hint="fetch it again")


def _verified(file: BinaryIO, payload_size: int, signer: Signer, digest: bytes) -> VerifiedBox:
    """From here on the payload is what the signer made; it may still be something that is no payload."""
    try:
        end = frame_end(file.fileno(), payload_size)
    except FrameError as error:
        raise BoxError(f"the box is signed, but its payload is none: {error}") from None
    if end != payload_size:
        raise BoxError("the box is signed, but something stands between its payload and its signature")
    return VerifiedBox(
        signer.key.key_id,
        signer.hash,
        payload_size,
        signer.key.size,
        contents.manifest_in(file),
        digest.hex(),
        signer.key.development,
    )


def _check_payload(fd: int, size: int, payload: Path) -> None:
    try:
        end = frame_end(fd, size)
    except FrameError as error:
        raise BoxError(f"this is no payload: {error}", place=Place(str(payload))) from None
    if end != size:
        raise BoxError(
            "there is something after the payload", place=Place(str(payload)), hint="is it a box, signed already?"
        )


def _digests(fd: int, size: int, hashes: Iterable[SignatureHash]) -> dict[SignatureHash, bytes]:
    """The digests of the first ``size`` bytes, in one pass."""
    running = {hash: hash.new() for hash in hashes}
    buffer = memoryview(bytearray(_HASH_CHUNK))
    done = told = 0
    with open(fd, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        while done < size:
            count = file.readinto(buffer[: size - done])
            if not count:
                raise BoxError("the file became shorter while it was read")
            for state in running.values():
                state.update(buffer[:count])
            done += count
            if done - told >= _PROGRESS_STEP or done == size:
                told = done
                events.progress(done, size)
    return {hash: state.digest() for hash, state in running.items()}
