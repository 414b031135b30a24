"""Folders into the store and out of it again, as trees of blobs. Knows no steps and no graph."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.errors import StepError, StoreError
from flatpack_build.fs import link_or_copy, walk_files
from flatpack_build.store.protocol import Store
from flatpack_build.tree import Kind, Tree, TreeEntry

_EMPTY = Digest.of_bytes(b"")
_WORTH_THREADS = 8 << 20  # bytes; below that, starting threads costs more than it brings


def kind_of(mode: int) -> Kind:
    """``exec`` when the owner may execute it."""
    return "exec" if mode & stat.S_IXUSR else "file"


def take_folder(store: Store, folder: Path) -> Tree:
    """Move everything below ``folder`` into the store. Raises ``StepError`` for what is neither file nor folder."""
    entries = []
    files: list[tuple[str, Path, os.stat_result]] = []
    for path, entry in walk_files(folder):
        if path.endswith("/"):
            entries.append(TreeEntry(path[:-1], "dir", 0, _EMPTY))
            continue
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise StepError(
                f"the step made {path!r}, which is not a regular file",
                hint="write a file instead of a link, socket or pipe",
            )
        files.append((path, Path(entry.path), status))
    for (path, file, status), digest in zip(files, _digests(files), strict=True):
        entries.append(
            TreeEntry(path, kind_of(status.st_mode), status.st_size, store.add_file(file, digest, move=True))
        )
    tree = Tree.of(entries)
    store.add_bytes(tree.encode())
    return tree


def _digests(files: Sequence[tuple[str, Path, os.stat_result]]) -> list[Digest]:
    """The digests of files, by threads where there is enough to hash: hashlib lets go of the GIL."""
    paths = [file for _, file, _ in files]
    if len(files) > 1 and sum(status.st_size for _, _, status in files) > _WORTH_THREADS:
        from concurrent.futures import ThreadPoolExecutor  # only where there is much to hash

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return list(threads.map(Digest.of_file, paths))
    return [Digest.of_file(file) for file in paths]


def load_tree(store: Store, digest: Digest) -> Tree:
    """Read a tree back, always checking its digest: a wrong tree would be built upon in silence.

    Raises ``StoreError``; a damaged tree is discarded, so it is made again.
    """
    try:
        data = store.path(digest).read_bytes()
    except OSError as error:
        raise StoreError(f"tree {digest.short} in the cache cannot be read: {error}", hint="build again") from error
    if Digest.of_bytes(data) != digest:
        store.discard(digest)
        raise StoreError(f"tree {digest.short} was damaged in the cache and has been removed", hint="build again")
    try:
        return Tree.decode(data)
    except ValueError as error:
        raise StoreError(f"tree {digest.short} in the cache cannot be read: {error}", hint="build again") from error


def missing(store: Store, tree: Tree) -> Sequence[TreeEntry]:
    """The files of ``tree`` whose blobs the store lacks."""
    return [entry for entry in tree.entries if entry.kind != "dir" and not store.contains(entry.digest, entry.size)]


def lay_out(store: Store, tree: Tree, folder: Path) -> None:
    """Make ``folder`` (which must not exist) hold ``tree``, by links: nobody may write to what is in it."""
    folder.mkdir(parents=True)
    made = {""}
    for entry in tree.entries:
        destination = folder / entry.path
        parent = os.path.dirname(entry.path)
        if parent not in made:
            destination.parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)
        if entry.kind == "dir":
            destination.mkdir(exist_ok=True)
            made.add(entry.path)
        else:
            link_or_copy(store.path(entry.digest), destination, mode=0o555 if entry.kind == "exec" else 0o444)
