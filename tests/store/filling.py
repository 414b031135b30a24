"""Caches filled for tests: real blobs, trees and entries, whose last use a test sets."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.digest import ActionKey, Digest
from flatpack_build.fingerprint import InputDigest, action_key, walk
from flatpack_build.params import FetchParams, Params, RunParams
from flatpack_build.store.folders import load_tree, missing
from flatpack_build.store.inventory import take_inventory
from flatpack_build.store.local import LocalActionCache, LocalStore
from flatpack_build.store.protocol import ActionResult
from flatpack_build.tree import Tree, TreeEntry

DAY = 86400.0
"""Seconds."""
LATER = time.time() + 2 * 3600
"""Two hours from now: nothing that a test has made is new any more."""


@dataclass
class Cache:
    root: Path

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.root)

    @property
    def actions(self) -> LocalActionCache:
        return LocalActionCache(self.root)

    def put(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        age: float = 0,
        params: Params | None = None,
        inputs: Mapping[str, InputDigest] | None = None,
    ) -> ActionKey:
        """An action that made ``files`` and was used last ``age`` seconds before ``LATER``."""
        params = params or RunParams(name, name, tuple(files), {})
        store = self.store
        entries = [TreeEntry(path, "file", len(data), store.add_bytes(data)) for path, data in files.items()]
        tree = Tree.of(entries)
        store.add_bytes(tree.encode())
        parts = list(walk(params, inputs or {}, {}))
        key = action_key(parts)
        self.actions.put(ActionResult(key, name, params.step, tree.digest, tree.size, 1.0, 0, (), tuple(parts)))
        self.used(key, age)
        return key

    def put_box(self, name: str, data: bytes, *, age: float = 0) -> ActionKey:
        """What signing leaves: an entry that names a blob and no tree."""
        key = ActionKey(Digest.of_bytes(name.encode()))
        blob = self.store.add_bytes(data)
        self.actions.put(ActionResult(key, name, "sign", blob, len(data), 1.0, 0, (), ()))
        self.used(key, age)
        return key

    def used(self, key: ActionKey, age: float) -> None:
        os.utime(self.entry(key), (LATER - age, LATER - age))

    def entry(self, key: ActionKey) -> Path:
        return self.root / "actions" / key[:2] / key

    def blob(self, data: bytes) -> Path:
        digest = Digest.of_bytes(data)
        return self.root / "blobs" / digest[:2] / digest

    def known(self) -> set[ActionKey]:
        return {action.key for action in take_inventory(self.root).actions}

    def dangling(self) -> list[str]:
        """The entries that name a blob which is not there."""
        inventory = take_inventory(self.root)
        found = []
        for action in inventory.actions:
            assert action.result is not None
            if action.result.is_blob:
                whole = self.store.contains(action.result.tree)
            else:
                whole = inventory.is_usable(action) and not missing(
                    self.store, load_tree(self.store, action.result.tree)
                )
            found += [] if whole else [action.result.action]
        return found


def flip_a_bit(file: Path) -> None:
    """As a bad disk does it: the file's times do not tell."""
    status = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    os.chmod(file, 0o644)
    file.write_bytes(data)
    os.chmod(file, 0o444)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def fetch(url: str, data: bytes) -> FetchParams:
    return FetchParams(url, {"file": Digest.of_bytes(data)}, {})


def big(number: int) -> bytes:
    """100 kB that no other number gives."""
    return f"{number:010}".encode() * 10_000


def fill(cache: Cache, count: int = 6) -> list[ActionKey]:
    """Actions of 100 kB each, the oldest first, a day between them."""
    return [cache.put(f"n{number}", {"out": big(number)}, age=(count - number) * DAY) for number in range(count)]
