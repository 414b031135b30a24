"""What a store of blobs and a cache of action results must do. Knows no implementation, no step, no graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flatpack_build.digest import ActionKey, Digest, Json, canonical_json


@dataclass(frozen=True)
class ActionResult:
    """What one run of an action gave: the digest of its output tree, and ``size``, the bytes of all its files."""

    key: ActionKey
    action: str
    """The name of the action that ran first with this key; others may share the result."""
    step: str
    tree: Digest
    size: int
    seconds: float
    peak_memory: int
    """Bytes, of the process that ran the step; 0 when it ran inside the builder."""
    notes: tuple[str, ...]
    parts: tuple[tuple[str, Json], ...]
    """The walk that the key was made from (``fingerprint.walk``)."""
    executor: str = "local"
    """Where the step ran: ``local``, and for a command of the user's in which sandbox."""

    @property
    def is_blob(self) -> bool:
        """Whether ``tree`` is the digest of one blob, a signed box, and not of a tree."""
        return self.step == "sign"

    def encode(self) -> bytes:
        return canonical_json(
            {
                "key": self.key,
                "action": self.action,
                "step": self.step,
                "tree": self.tree,
                "size": self.size,
                "seconds": self.seconds,
                "peak_memory": self.peak_memory,
                "notes": self.notes,
                "parts": self.parts,
                "executor": self.executor,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> ActionResult:
        """Raises ``ValueError`` when ``data`` is not what ``encode`` writes."""
        try:
            value = json.loads(data)
            return cls(
                key=ActionKey(value["key"]),
                action=value["action"],
                step=value["step"],
                tree=Digest.parse(value["tree"]),
                size=value["size"],
                seconds=value["seconds"],
                peak_memory=value["peak_memory"],
                notes=tuple(value["notes"]),
                parts=tuple((name, item) for name, item in value["parts"]),
                executor=value.get("executor", "local"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an action result: {error}") from error


class Store(Protocol):
    """Blobs by the sha256 of their content. Whole or absent, never changed once there."""

    def contains(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob is there, and is ``size`` bytes long where that is given."""

    def path(self, digest: Digest) -> Path:
        """A local, read-only file with the blob. Raises ``StoreError`` when it is not there or (if checked) damaged."""

    def discard(self, digest: Digest) -> None:
        """Forget a blob that is damaged. One that is not there, or cannot be removed, is no error."""

    def add_file(self, source: Path, digest: Digest | None = None, *, move: bool = False) -> Digest:
        """Take a file in, hashing it unless ``digest`` is known to be right. ``move`` may consume ``source``."""

    def add_bytes(self, data: bytes) -> Digest:
        """Take a small blob in."""


class ActionCache(Protocol):
    """Action key -> result. An entry that cannot be read is no entry."""

    def get(self, key: ActionKey) -> ActionResult | None: ...

    def put(self, result: ActionResult) -> None: ...
