"""OpenSSF Model Signing: a bundle that the ``model_signing`` command verifies, made with an EC key. Knows no boxes: what is
signed is one file, by its name and its sha256.

It is made here and not by the ``model-signing`` package: that brings a dozen others and hashes every file again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flatpack_build.box.keys import (
    DEVELOPMENT_MARK,
    GeneratedKey,
    key_id,
    public_path,
    read_key,
    require_free,
    write_pair,
)
from flatpack_build.box.passphrase import Passphrase, WrongPassphraseError, passphrase_from
from flatpack_build.digest import Digest, Json, canonical_json
from flatpack_build.errors import KeyFileError, Place

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")

_IGNORED = [".git", ".gitattributes", ".github", ".gitignore"]
"""The verifier's own defaults. They mean nothing for a single file, and it expects to read them."""


class ModelSigner:
    """Signs with the EC key at ``private``; its public half lies beside it. May be used from many threads."""

    def __init__(self, private: Path) -> None:
        self._private = private
        self._mutex = threading.Lock()
        self._unlocked: EllipticCurvePrivateKey | None = None

    @cached_property
    def key_id(self) -> str:
        """The id of the key, from its public half where that is there: no passphrase is needed. Raises ``KeyFileError``."""
        if not self._private.exists():
            raise KeyFileError(
                "there is no key to sign models with",
                place=Place(os.fspath(self._private)),
                hint="make one: flatpack keygen --ec; or take model_signing_key out of pyproject.toml",
            )
        public = public_path(self._private)
        return key_id(read_key(public) if public.exists() else _public_pem(self._key()))

    def sign(self, name: str, digest: Digest) -> bytes:
        """The bundle for a file ``name`` with that sha256. Raises ``KeyFileError``."""
        return sign_file(name, digest, self._key())

    def _key(self) -> EllipticCurvePrivateKey:
        with self._mutex:  # whoever comes first asks for the passphrase, once
            if self._unlocked is None:
                self._unlocked = load_ec_key(self._private, passphrase_from(os.environ, options=False))
            return self._unlocked


def generate_ec_key(path: Path, *, passphrase: bytes | None, development: bool) -> GeneratedKey:
    """Write a new P-256 key to ``path`` and its public key beside it, as ``keys.generate_key`` does for RSA keys."""
    if not development and not passphrase:
        raise KeyFileError(
            "a signing key needs a passphrase", hint="or make a key for trying things out with --development"
        )
    require_free(path)

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase and not development:
        encryption = serialization.BestAvailableEncryption(passphrase)
    mark = f"{DEVELOPMENT_MARK}\n".encode() if development else b""
    private_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return write_pair(path, mark + private_pem, mark + _public_pem(key).encode())


def load_ec_key(path: Path, passphrase: Passphrase) -> EllipticCurvePrivateKey:
    """Unlock an EC key, one of openssl's included; ``passphrase`` is read only where it is encrypted.

    Raises ``KeyFileError``, also for another kind of key, or another curve than ``CURVES``.
    """
    place = Place(os.fspath(path))
    pem = read_key(path, private=True)
    if "ENCRYPTED" in pem:
        return passphrase.unlock(os.fspath(path), lambda password: _ec_key(pem, password, place))
    return _ec_key(pem, None, place)


def _ec_key(pem: str, password: bytes | None, place: Place) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # openssl's ecparam puts the curve's name into a block of its own before the key.
        key = load_pem_private_key(pem[max(0, _start_of_key(pem)) :].encode(), password)
    except UnsupportedAlgorithm as error:
        raise KeyFileError(f"the private key is of an unknown kind: {error}", place=place) from None
    except (ValueError, TypeError):
        if password:
            raise WrongPassphraseError(
                "the passphrase does not unlock the private key", place=place, hint="or the file is damaged"
            ) from None
        raise KeyFileError("the file holds no private key", place=place, hint="is it the private key?") from None
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise KeyFileError(
            "models are signed with EC keys (P-256, P-384 or P-521); this is another kind of key",
            place=place,
            hint="make one: flatpack keygen --ec",
        )
    return key


def sign_file(name: str, digest: Digest, key: EllipticCurvePrivateKey) -> bytes:
    """The bundle (JSON) that says: the file called ``name`` has this sha256. The name binds nothing: it may be renamed."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    statement: Json = {
        "_type": "https://in-toto.io/Statement/v1",
        # The format's digest of a model: over the digests of its files.
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(bytes.fromhex(digest)).hexdigest()}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": _IGNORED,
            },
            "resources": [{"name": ".", "algorithm": "sha256", "digest": digest}],
        },
    }
    payload = canonical_json(statement)
    hash = {256: hashes.SHA256(), 384: hashes.SHA384()}.get(key.curve.key_size, hashes.SHA512())
    signature = key.sign(_enveloped(payload), ec.ECDSA(hash))
    bundle = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(_public_pem(key).encode()).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, indent=1).encode() + b"\n"


def _enveloped(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _start_of_key(pem: str) -> int:
    return next((pem.find(f"-----BEGIN {kind}") for kind in ("EC PRIVATE", "ENCRYPTED", "PRIVATE") if kind in pem), 0)


def _public_pem(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
