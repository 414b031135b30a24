"""RSA-PSS signatures over digests, as in Flatpack: MGF1 with the same hash, salt of maximum length. Knows no files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from flatpack_build.box.keys import PrivateKey, PublicKey
from flatpack_build.errors import KeyFileError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import PSS
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed


class SignatureHash(StrEnum):
    """The hash of a signature; ``new()`` gives one to feed."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"

    def new(self) -> hashlib._Hash:
        return hashlib.new(self.value)

    @property
    def size(self) -> int:
        return self.new().digest_size


@dataclass(frozen=True, slots=True)
class Signer:
    """A key and a hash that a signature was made with, as far as its padding tells."""

    key: PublicKey
    hash: SignatureHash


def sign_digest(digest: bytes, key: PrivateKey, hash: SignatureHash) -> bytes:
    """The signature over something whose ``hash`` is ``digest``; as long as the key. Raises ``KeyFileError``."""
    from cryptography.exceptions import InvalidSignature

    try:
        signature = key.rsa.sign(digest, *_scheme(hash))
        # A damaged key, or a fault while computing, gives a signature that is not only wrong but may betray the key.
        key.rsa.public_key().verify(signature, digest, *_scheme(hash))
    except (InvalidSignature, ValueError) as error:
        raise KeyFileError(
            f"the signing key {key.source} is damaged: what it signs does not verify", hint="restore it from a backup"
        ) from error
    return signature


def is_signed(digest: bytes, signature: bytes, signer: Signer) -> bool:
    """Whether ``signature`` over ``digest`` is by ``signer``: the only verdict that counts."""
    from cryptography.exceptions import InvalidSignature

    try:
        signer.key.rsa.verify(signature, digest, *_scheme(signer.hash))
    except InvalidSignature:
        return False
    return True


def possible_signers(signature: bytes, keys: Iterable[PublicKey]) -> list[Signer]:
    """Who may have made ``signature``, told from it alone: opened with the right key, it shows its hash's padding.

    So key and hash are known before a byte of the payload is read, and a box by a stranger is refused at once.
    A false name among them (one in some thousand) costs time only; ``is_signed`` decides.
    """
    return [
        Signer(key, hash)
        for key in keys
        if len(signature) == key.size
        for hash in SignatureHash
        if _shows_padding(signature, key, hash)
    ]


def _shows_padding(signature: bytes, key: PublicKey, hash: SignatureHash) -> bool:
    """RFC 8017, 9.1.2, as far as it goes without the message: trailer, free bits, and the 1 before the salt."""
    numbers = key.rsa.public_numbers()
    value = int.from_bytes(signature, "big")
    if value >= numbers.n:
        return False
    bits = key.rsa.key_size - 1
    length = (bits + 7) // 8
    opened = pow(value, numbers.e, numbers.n)
    if opened.bit_length() > bits:
        return False
    message = opened.to_bytes(length, "big")
    if message[-1] != 0xBC or length < 2 * hash.size + 2:
        return False
    seed = message[-1 - hash.size : -1]
    mask = hashlib.new(hash.value, seed + bytes(4)).digest()[0]
    used_bits = 0xFF >> (8 * length - bits)
    # With the longest salt there are no zeros before the 1, so it is the first byte.
    return (message[0] ^ mask) & used_bits == 1


def _scheme(hash: SignatureHash) -> tuple[PSS, Prehashed]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, utils

    algorithm: hashes.HashAlgorithm = {
        SignatureHash.SHA256: hashes.SHA256(),
        SignatureHash.SHA384: hashes.SHA384(),
        SignatureHash.SHA512: hashes.SHA512(),
    }[hash]
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH), utils.Prehashed(algorithm)
