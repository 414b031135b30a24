"""The user's files as one build sees them: each is looked at once, and copied before a step reads it.

Knows a store; no graph and no keys of actions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from flatpack_build.action import Action, SourceFile, SourceTree
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError
from flatpack_build.stamps import Signature
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import kind_of, missing
from flatpack_build.store.protocol import Store
from flatpack_build.tree import Tree, TreeEntry


class SourceFiles:
    """Files by their absolute paths. ``store`` is where their copies go; the ``digests`` are those of their flatpack."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, TreeEntry] = {}
        self._digests: dict[str, DigestCache] = {}

    def entry(self, path: str, digests: DigestCache) -> TreeEntry:
        """A file as it was when this build first looked: all actions of one build see the same. Raises ``SourceError``."""
        entry = self._entries.get(path)
        if entry is None:
            digest, status = digests.digest(path)
            entry = self._entries[path] = TreeEntry(path, kind_of(status.st_mode), status.st_size, digest)
            self._digests[path] = digests
        return entry

    def tree(self, source: SourceTree, digests: DigestCache) -> Tree:
        """The same for many files below one folder."""
        entries = []
        paths = [f"{source.root}/{path}" for path in source.files]
        digests.prepare([path for path in paths if path not in self._entries])
        for name, path in zip(source.files, paths, strict=True):
            file = self.entry(path, digests)
            entries.append(TreeEntry(name, file.kind, file.size, file.digest))
        return Tree.of(entries)

    def take_in(self, path: str, digest: Digest, size: int) -> None:
        """Copy a file into the store, so that an edit during the build cannot change what is built.

        Raises ``SourceError`` when it is gone, or is no longer what was seen.
        """
        if self._store.contains(digest, size):
            return
        try:
            with open(path, "rb"):
                pass  # whether it can be read at all: what fails from here on is the cache
            taken = self._store.add_file(Path(path))
        except OSError as error:
            raise SourceError(
                f"{path} cannot be read any more: {error.strerror}", hint="it was there when this build began"
            ) from error
        if taken != digest:
            if path in self._digests:
                self._digests[path].forget(path)
            raise SourceError(f"{path} was changed while it was being built from", hint="build again")

    def take_in_tree(self, root: str, tree: Tree) -> None:
        """The same for every file of ``tree``, which lies below the folder ``root``, and for the tree itself."""
        for entry in missing(self._store, tree):
            self.take_in(f"{root}/{entry.path}", entry.digest, entry.size)
        self._store.add_bytes(tree.encode())


def seen_files(actions: Iterable[Action], digests: DigestCache) -> Mapping[str, Signature] | None:
    """Every file of the user's that the actions read, as it was when it was hashed; ``None`` if one of them changed too
    shortly before that to be sure."""
    found: dict[str, Signature] = {}
    for action in actions:
        for source in action.inputs.values():
            paths: tuple[str, ...] = ()
            if isinstance(source, SourceFile):
                paths = (source.path,)
            elif isinstance(source, SourceTree):
                paths = tuple(f"{source.root}/{path}" for path in source.files)
            for path in paths:
                found[path] = digests.signature(path)
                if found[path] is None:
                    return None
    return found
