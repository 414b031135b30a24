"""The action key, from one walk over all that decides an action's outputs. Pure: digests and versions are handed in.

The same walk is kept with each result, so an explanation of a rebuild compares two walks and cannot disagree with the
key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from flatpack_build.digest import ActionKey, Digest, Json, canonical_json
from flatpack_build.params import Params
from flatpack_build.tree import TreeEntry


@dataclass(frozen=True, slots=True)
class InputDigest:
    """What an input is made of: the digest of a file (``exec``: it may be executed), or that of a tree. ``size`` is the
    bytes of all its files."""

    kind: Literal["file", "exec", "tree"]
    digest: Digest
    size: int

    @classmethod
    def of_file(cls, entry: TreeEntry) -> InputDigest:
        """``entry`` is that of a file."""
        return cls("exec" if entry.kind == "exec" else "file", entry.digest, entry.size)

    def as_entry(self, path: str = "") -> TreeEntry:
        """The inverse of ``of_file``, at ``path``."""
        return TreeEntry(path, "exec" if self.kind == "exec" else "file", self.size, self.digest)


def walk(params: Params, inputs: Mapping[str, InputDigest], tools: Mapping[str, str]) -> Iterator[tuple[str, Json]]:
    """Every part of the key in a fixed order: its name as a person would say it, and its value."""
    yield "step", params.step
    yield "step version", params.version
    for tool in params.tools:
        yield f"tool {tool}", tools[tool]
    for name, value in sorted(params.key_json().items()):
        yield f"parameter {name}", value
    for name in sorted(inputs):
        yield f"input {name}", f"{inputs[name].kind}:{inputs[name].digest}"


def action_key(parts: list[tuple[str, Json]]) -> ActionKey:
    """The sha256 over the parts that ``walk`` gave."""
    return ActionKey(Digest.of_bytes(canonical_json(parts)))
