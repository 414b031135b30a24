"""``Digest`` and ``ActionKey`` as types of their own, and the canonical JSON that keys are made of. Knows no store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

_HEX = frozenset("0123456789abcdef")


class Digest(str):
    """The sha256 of some bytes: 64 lower-case hexadecimal characters."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check ``text`` (with or without a leading ``sha256:``). Raises ``ValueError`` when it is no sha256."""
        bare = text.removeprefix("sha256:").lower()
        if len(bare) != 64 or not _HEX.issuperset(bare):
            raise ValueError(f"not a sha256: {text!r} (64 hexadecimal characters are expected)")
        return cls(bare)

    @classmethod
    def of_bytes(cls, data: bytes) -> Digest:
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """Hash a file without reading it whole. Raises ``OSError``."""
        with open(path, "rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest())

    @property
    def short(self) -> str:
        return self[:12]


class ActionKey(str):
    """The sha256 over everything that decides what an action's outputs are."""

    __slots__ = ()

    @property
    def short(self) -> str:
        return self[:12]


def canonical_json(value: Json) -> bytes:
    """One value, one spelling: sorted keys, no spaces, UTF-8. What keys and trees are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sealed(data: bytes) -> bytes:
    """``data`` with its digest before it: for what is kept, believed when it is read back, and not named by its digest."""
    return Digest.of_bytes(data).encode() + b"\n" + data


def unsealed(data: bytes) -> bytes:
    """What was ``sealed``. Raises ``ValueError`` when a bit of it has flipped, or some of it is gone."""
    digest, _, content = data.partition(b"\n")
    if digest != Digest.of_bytes(content).encode():
        raise ValueError("damaged")
    return content
