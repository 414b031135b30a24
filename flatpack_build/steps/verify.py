"""The verify step: nothing goes on that is not what was promised, whole, and signed where it must be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flatpack_build import gguf, onnx_header
from flatpack_build.errors import KeyFileError, StepError, VerificationError
from flatpack_build.fetching.stream import CHUNK, Meter
from flatpack_build.fs import link_or_copy
from flatpack_build.params import VerifyParams

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

FORMATS = ("gguf", "onnx", "any")
HASHES = ("sha256", "sha384", "sha512")
_MAX_SIGNATURE = 16 * 1024
_MIN_KEY_BITS = 2048


def run(params: VerifyParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Check input ``file`` and hand it on as ``out/<name>``.

    Raises ``VerificationError`` when a check fails, ``KeyFileError`` for a public key that is no RSA key.
    """
    file = inputs["file"]
    if params.signature_hash not in HASHES:
        raise VerificationError(f"{params.name}: no signature can be checked with {params.signature_hash!r}",
                                hint=f"one of: {', '.join(HASHES)}")  # fmt: skip
    try:
        sha256, signed = _digests(file, params.signature_hash)
        if sha256 != params.sha256:
            raise VerificationError(
                f"{params.name} is not what was promised\n"
                f"  expected sha256 {params.sha256}\n"
                f"  got      sha256 {sha256}",
                hint="if it was meant to change, correct sha256 in flatpack.toml or run: flatpack lock <name>",
            )
        if params.public_keys:
            if "signature" not in inputs:
                raise VerificationError(f"{params.name}: its signature is missing", hint="name it in [model] signature")
            _check_signature(params, signed, inputs["signature"])
        _check_format(params, file)
        link_or_copy(file, out / params.name)
    except OSError as error:
        raise StepError(f"{params.name}: cannot be read or handed on: {error.strerror or error}") from error


def _digests(file: Path, name: str) -> tuple[str, bytes]:
    """The file's sha256, and its digest for the signature, from one reading."""
    first = hashlib.sha256()
    hashes = [first] if name == "sha256" else [first, hashlib.new(name)]
    with open(file, "rb") as stream:
        meter = Meter(file.stat().st_size)
        while chunk := stream.read(CHUNK):
            for each in hashes:
                each.update(chunk)
            meter.add(len(chunk))
    return first.hexdigest(), hashes[-1].digest()


def _key(pem: str, number: int) -> RSAPublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        secret = "PRIVATE KEY" in pem
        hint = "this is a private key! take `openssl rsa -pubout` of it" if secret else "a PEM file is expected"
        raise KeyFileError(f"public key {number} cannot be read", hint=hint) from error
    if not isinstance(key, RSAPublicKey):
        raise KeyFileError(f"public key {number} is no RSA key", hint="signatures of sources are RSA-PSS")
    if key.key_size < _MIN_KEY_BITS:
        raise KeyFileError(f"public key {number} has {key.key_size} bits: too weak", hint="4096 bits are usual")
    return key


def _check_signature(params: VerifyParams, digest: bytes, path: Path) -> None:
    # cryptography takes 50 ms to import, and most flatpacks name no signature.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    if path.stat().st_size > _MAX_SIGNATURE:
        raise VerificationError(
            f"{params.name}: its signature is {path.stat().st_size} bytes long, which no signature is"
        )
    signature = path.read_bytes()
    kinds: dict[str, hashes.HashAlgorithm] = {
        "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
    }  # fmt: skip
    algorithm = kinds[params.signature_hash]
    keys = [_key(pem, number) for number, pem in enumerate(params.public_keys, 1)]
    for key in keys:
        try:
            scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            key.verify(signature, digest, scheme, Prehashed(algorithm))
        except InvalidSignature:
            continue
        return
    sizes = sorted({key.key_size // 8 for key in keys})
    hint = "the file was changed, or signed with another key or hash"
    if len(signature) not in sizes:
        hint = (
            f"the signature has {len(signature)} bytes, one by these keys {' or '.join(map(str, sizes))}: wrong file?"
        )
    trusted = "the trusted key" if len(keys) == 1 else f"any of the {len(keys)} trusted keys"
    raise VerificationError(f"{params.name}: the signature is not by {trusted}", hint=hint)


def _check_format(params: VerifyParams, file: Path) -> None:
    if params.format not in FORMATS:
        raise VerificationError(f"{params.name}: the format {params.format!r} cannot be checked",
                                hint=f"one of: {', '.join(FORMATS)}")  # fmt: skip
    try:
        if params.format == "gguf":
            gguf.read_header(file)
        elif params.format == "onnx":
            onnx_header.check(file)
    except VerificationError as error:
        # The input is a path of the build's own: a person knows the file by the name it will have.
        raise VerificationError(f"{params.name}: {error.message}", hint=error.hint) from error
