"""Boxes as the original Flatpack makes and verifies them, by independent means: no product code."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

SEPARATOR = b"---SIGNATURE_SEPARATOR---"
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def _scheme(algorithm: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)


def original_payload(source: Path, *, tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """A folder as a tar whose top entry is its name, or a single file as it is; in one zstd frame."""
    if source.is_file():
        return zstandard.ZstdCompressor().compress(source.read_bytes())
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format) as archive:
        archive.add(source, arcname=source.name)
    return zstandard.ZstdCompressor().compress(stream.getvalue())


def original_box(payload: bytes, key: RSAPrivateKey, hash: str = "sha256") -> bytes:
    return payload + SEPARATOR + key.sign(payload, _scheme(HASHES[hash]), HASHES[hash])


def original_verify(box: bytes, key: RSAPublicKey, hash: str = "sha256") -> bytes:
    """The payload, taken apart wherever the separator stands. Raises ``ValueError`` or ``InvalidSignature``."""
    payload, signature = box.split(SEPARATOR)
    key.verify(signature, payload, _scheme(HASHES[hash]), HASHES[hash])
    return payload


def original_folder(root: Path, name: str = "chat") -> Path:
    """A flatpack's folder of the old kind."""
    folder = root / name
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "flatpack.toml").write_text(f'version = "0.0.3"\n\n[environment]\nmodel_name = "{name}"\n')
    (folder / "build.sh").write_text("#!/bin/bash\necho hello\n")
    (folder / "build.sh").chmod(0o755)
    (folder / "sub" / ("ä" * 60 + "long" * 20)).write_text("a name that is longer than a tar header's\n")
    return folder
