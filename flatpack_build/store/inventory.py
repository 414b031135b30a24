"""Everything that a cache folder holds, read once: entries of the action cache, blobs, leftovers. Changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.digest import ActionKey, Digest
from flatpack_build.store.local import cannot
from flatpack_build.store.protocol import ActionResult
from flatpack_build.tree import Tree

EXPLAINED_SIZE = 65536
"""Bytes. An input up to this size is kept as long as a result made from it, so that a change of it can be shown."""


@dataclass(frozen=True, slots=True)
class StoredAction:
    """One entry of the action cache. ``used``: seconds since the epoch. ``result``: ``None`` when it is unreadable."""

    key: ActionKey
    path: str
    size: int
    used: float
    result: ActionResult | None


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """``changed``: seconds since the epoch, when it came or last changed in any way. ``mode``: its permissions."""

    digest: Digest
    path: str
    size: int
    changed: float
    mode: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that a writer left behind when it died."""

    path: str
    size: int
    changed: float


class Inventory:
    """What ``take_inventory`` found. Trees are read when they are asked for, each once."""

    def __init__(
        self,
        root: Path,
        actions: tuple[StoredAction, ...],
        blobs: Mapping[Digest, StoredBlob],
        leftovers: tuple[Leftover, ...],
    ) -> None:
        self.root = root
        self.actions = actions
        self.blobs = blobs
        self.leftovers = leftovers
        self._trees: dict[Digest, Tree | None] = {}

    @property
    def size(self) -> int:
        """The bytes of all of it."""
        parts = (self.actions, self.blobs.values(), self.leftovers)
        return sum(item.size for part in parts for item in part)

    def tree(self, digest: Digest) -> Tree | None:
        """``None`` when it is not there, or damaged."""
        if digest not in self._trees:
            self._trees[digest] = self._read_tree(digest)
        return self._trees[digest]

    def _read_tree(self, digest: Digest) -> Tree | None:
        if digest not in self.blobs:
            return None
        try:
            data = Path(self.blobs[digest].path).read_bytes()
            return Tree.decode(data) if Digest.of_bytes(data) == digest else None
        except (OSError, ValueError):
            return None

    def is_usable(self, action: StoredAction) -> bool:
        """Whether a build could find anything by this entry. Files below its tree may be missing: they are made again."""
        if action.result is None:
            return False
        if action.result.is_blob:
            return action.result.tree in self.blobs
        return self.tree(action.result.tree) is not None

    def outputs(self, result: ActionResult) -> Iterator[Digest]:
        """The blobs that make up a result, its tree's included, whether they are there or not."""
        yield result.tree
        if not result.is_blob:
            yield from self._files(result.tree)

    def small_inputs(self, result: ActionResult) -> Iterator[Digest]:
        """The inputs of up to ``EXPLAINED_SIZE`` bytes that are there."""
        for name, value in result.parts:
            if not name.startswith("input ") or not isinstance(value, str):
                continue
            kind, _, text = value.partition(":")
            for digest in (Digest(text), *(self._files(Digest(text)) if kind == "tree" else ())):
                if digest in self.blobs and self.blobs[digest].size <= EXPLAINED_SIZE:
                    yield digest

    def _files(self, digest: Digest) -> Iterator[Digest]:
        tree = self.tree(digest)
        if tree is not None:
            yield from (entry.digest for entry in tree.entries if entry.kind != "dir")


def take_inventory(root: Path) -> Inventory:
    """Look at everything below ``root``; a folder that does not exist is an empty cache. Files that come or go
    meanwhile are seen or not. Raises ``StoreError`` when it cannot be read."""
    actions: list[StoredAction] = []
    blobs: dict[Digest, StoredBlob] = {}
    leftovers: list[Leftover] = []
    try:
        # Entries first: whatever they name was there before them, even when a build is adding to the cache.
        for entry, status in _files_of(root / "actions"):
            if _is_temporary(entry.name):
                leftovers.append(_leftover(entry, status))
            elif _is_sha256(entry.name):
                result = _read_action(entry)
                key = ActionKey(entry.name)
                actions.append(StoredAction(key, entry.path, status.st_size, status.st_mtime, result))
        for entry, status in _files_of(root / "blobs"):
            if _is_temporary(entry.name):
                leftovers.append(_leftover(entry, status))
            elif _is_sha256(entry.name):
                digest = Digest(entry.name)
                changed = max(status.st_mtime, status.st_ctime)  # a moved file keeps the mtime that its step gave it
                blobs[digest] = StoredBlob(digest, entry.path, status.st_size, changed, stat.S_IMODE(status.st_mode))
    except OSError as error:
        raise cannot("look", error, root) from error
    return Inventory(root, tuple(actions), blobs, tuple(leftovers))


def _files_of(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """The regular files two levels below ``folder``, in no order."""
    try:
        parts = [part for part in os.scandir(folder) if len(part.name) == 2 and part.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for part in parts:
        for entry in os.scandir(part.path):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # gone meanwhile
            if stat.S_ISREG(status.st_mode):
                yield entry, status


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _is_sha256(name: str) -> bool:
    try:
        return Digest.parse(name) == name
    except ValueError:
        return False


def _leftover(entry: os.DirEntry[str], status: os.stat_result) -> Leftover:
    return Leftover(entry.path, status.st_size, max(status.st_mtime, status.st_ctime))


def _read_action(entry: os.DirEntry[str]) -> ActionResult | None:
    try:
        result = ActionResult.decode(Path(entry.path).read_bytes())
    except (OSError, ValueError):
        return None
    return result if result.key == entry.name else None
