"""``Tree``: the content of a folder as one sorted list of paths, modes, sizes and digests. Pure; knows no store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from flatpack_build.digest import Digest, Json, canonical_json

Kind = Literal["file", "exec", "dir"]


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file (``exec``: it may be executed) or one empty folder, of size 0 and with the digest of no bytes."""

    path: str
    kind: Kind
    size: int
    digest: Digest

    @property
    def mode(self) -> int:
        return 0o644 if self.kind == "file" else 0o755


@dataclass(frozen=True)
class Tree:
    """Entries sorted by path. Its digest is that of its canonical JSON, so two equal folders have one digest."""

    entries: tuple[TreeEntry, ...]

    @classmethod
    def of(cls, entries: list[TreeEntry]) -> Tree:
        return cls(tuple(sorted(entries, key=lambda entry: entry.path)))

    def encode(self) -> bytes:
        return canonical_json(self._as_json())

    def _as_json(self) -> Json:
        return [[entry.path, entry.kind, entry.size, entry.digest] for entry in self.entries]

    @classmethod
    def decode(cls, data: bytes) -> Tree:
        """Raises ``ValueError`` when ``data`` is no tree."""
        try:
            return cls._of_json(json.loads(data))
        except (TypeError, ValueError) as error:
            raise ValueError(f"not a tree: {error}") from error

    @classmethod
    def _of_json(cls, value: Iterable[Iterable[Any]]) -> Tree:
        return cls(tuple(TreeEntry(path, kind, size, Digest(digest)) for path, kind, size, digest in value))

    @cached_property
    def digest(self) -> Digest:
        return Digest.of_bytes(self.encode())

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(entry.size for entry in self.entries)

    def file(self, path: str) -> TreeEntry | None:
        """The entry at exactly ``path``, if it is a file."""
        return next((entry for entry in self.entries if entry.path == path and entry.kind != "dir"), None)

    def below(self, folder: str) -> Tree:
        """The part of the tree inside ``folder``, with paths relative to it. Empty when there is none."""
        prefix = folder.rstrip("/") + "/"
        return Tree(
            tuple(
                TreeEntry(entry.path[len(prefix) :], entry.kind, entry.size, entry.digest)
                for entry in self.entries
                if entry.path.startswith(prefix)
            )
        )


def encode_trees(trees: Mapping[str, Tree]) -> bytes:
    """Several trees by name, for ``decode_trees``."""
    return canonical_json({name: tree._as_json() for name, tree in trees.items()})


def decode_trees(data: bytes) -> dict[str, Tree]:
    """Raises ``ValueError`` when ``data`` is something else."""
    try:
        return {name: Tree._of_json(value) for name, value in json.loads(data).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not a list of trees: {error}") from error
