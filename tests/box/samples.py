"""Payloads, keys and boxes that the tests of boxes share. No product code: real files, real keys."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from flatpack_build.box.container import sign_payload
from flatpack_build.box.keys import PrivateKey, PublicKey, generate_key, load_private_key, load_public_key
from flatpack_build.box.packing import PayloadEntry, write_payload
from flatpack_build.box.passphrase import Passphrase
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.box.signature import SignatureHash

NAME, VERSION, TARGET = "chat", "0.1.0", "pi5"

ENTRIES: tuple[PayloadEntry, ...] = (
    PayloadEntry("flatpack.toml", b'version = "0.1.0"\n'),
    PayloadEntry("build.sh", b"#!/bin/sh\necho hello\n", executable=True),
    PayloadEntry("docs/manual.md", "En handbok på svenska\n".encode() * 50),
    PayloadEntry("docs/" + "långt namn " * 12 + ".md", b""),
    PayloadEntry("models", None),
    PayloadEntry("weights.bin", random.Random(7).randbytes(200_000)),
)


class KeyPair:
    """A private and a public key, and the files they lie in."""

    def __init__(self, folder: Path, name: str, *, bits: int = 2048) -> None:
        generated = generate_key(folder / f"{name}.pem", passphrase=None, development=True, bits=bits)
        self.private_file, self.public_file = generated.private, generated.public
        self.private: PrivateKey = load_private_key(generated.private, Passphrase())
        self.public: PublicKey = load_public_key(generated.public)


def released(pair: KeyPair, path: Path) -> Path:
    """The public key of ``pair`` without the mark of a development key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(pair.public_file.read_text().splitlines(keepends=True)[1:]))
    return path


def make_payload(
    path: Path, entries: Sequence[PayloadEntry] = ENTRIES, *, workers: int | None = None, level: int = 3
) -> PayloadManifest:
    with open(path, "wb") as file:
        return write_payload(entries, file, flatpack=NAME, version=VERSION, target=TARGET, level=level, workers=workers)


def make_box(
    folder: Path,
    key: PrivateKey,
    entries: Sequence[PayloadEntry] = ENTRIES,
    *,
    name: str = "chat-pi5.fpk",
    hash: SignatureHash = SignatureHash.SHA256,
) -> Path:
    payload = folder / f"{name}.payload"
    make_payload(payload, entries)
    sign_payload(payload, folder / name, key, hash)
    payload.unlink()
    return folder / name
