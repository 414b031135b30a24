"""Checks every blob and every entry of a cache folder against what its name promises, and removes what is bad.

A build that runs meanwhile does not mind: what it needs and finds missing, it makes again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flatpack_build.digest import Digest
from flatpack_build.events import progress
from flatpack_build.fingerprint import action_key
from flatpack_build.store.inventory import Inventory, StoredAction, StoredBlob, take_inventory
from flatpack_build.store.local import cannot
from flatpack_build.store.protocol import ActionResult

Kind = Literal["damaged blob", "cut blob", "unreadable blob", "permissions", "damaged entry", "lost output"]
BLOB_MODE = 0o444


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is bad: the ``name`` of its file, in words what is wrong with it, and how many bytes it has."""

    kind: Kind
    name: str
    detail: str
    size: int
    done: Literal["removed", "mended"]


@dataclass(frozen=True)
class Audit:
    """What was looked at, in numbers and ``size`` bytes of blobs, and what was bad, sorted."""

    blobs: int
    actions: int
    size: int
    findings: tuple[Finding, ...]


def audit(root: Path, *, jobs: int) -> Audit:
    """Hash all blobs of the cache in ``root``, ``jobs`` at a time, and check all entries. Reports bytes as progress.

    Raises ``StoreError`` when the folder cannot be read, or what is bad cannot be removed.
    """
    inventory = take_inventory(root)
    sizes = _sizes(inventory)
    # The largest first, so that no worker is left with one at the end.
    blobs = sorted(inventory.blobs.values(), key=lambda blob: -blob.size)
    total = sum(blob.size for blob in blobs)
    findings = []
    done = 0
    try:
        # Hashing lets other threads run, so threads are enough to keep all cores busy.
        with ThreadPoolExecutor(jobs) as pool:
            try:
                checks = pool.map(lambda blob: _check_blob(blob, sizes.get(blob.digest)), blobs)
                for blob, found in zip(blobs, checks, strict=True):
                    done += blob.size
                    progress(done, total, "bytes")
                    findings += [found] if found else []
            finally:
                pool.shutdown(cancel_futures=True)  # Ctrl-C ends it now, not when all is hashed
        bad = {finding.name for finding in findings if finding.done == "removed"}
        findings += [found for action in inventory.actions if (found := _check_action(inventory, action, bad))]
    except OSError as error:
        raise cannot("remove something damaged", error, root) from error
    return Audit(len(inventory.blobs), len(inventory.actions), total, tuple(sorted(findings)))


def _sizes(inventory: Inventory) -> dict[Digest, int]:
    """How long each blob should be, as far as trees and entries say."""
    sizes: dict[Digest, int] = {}
    for action in inventory.actions:
        if action.result is None:
            continue
        if action.result.is_blob:
            sizes[action.result.tree] = action.result.size
        elif tree := inventory.tree(action.result.tree):
            sizes.update((entry.digest, entry.size) for entry in tree.entries if entry.kind != "dir")
    return sizes


def _check_blob(blob: StoredBlob, size: int | None) -> Finding | None:
    """Raises ``OSError`` when a bad one cannot be removed."""
    mended = _mend_mode(blob)  # first, or it might not even be readable
    try:
        with open(blob.path, "rb") as file:
            status = os.fstat(file.fileno())
        found = Digest.of_file(Path(blob.path))
    except FileNotFoundError:
        return None  # removed meanwhile
    except OSError as error:
        os.unlink(blob.path)
        return Finding("unreadable blob", blob.digest, error.strerror or str(error), blob.size, "removed")
    return mended if found == blob.digest else _remove_damaged(blob, status, size)


def _remove_damaged(blob: StoredBlob, status: os.stat_result, size: int | None) -> Finding | None:
    with contextlib.suppress(FileNotFoundError):
        now = os.stat(blob.path)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (status.st_ino, status.st_size, status.st_mtime_ns):
            return None  # a build has replaced it while it was being hashed
        os.unlink(blob.path)
    if size is not None and status.st_size < size:
        detail = f"{status.st_size} of {size} bytes are left"
        return Finding("cut blob", blob.digest, detail, status.st_size, "removed")
    if not status.st_size:
        return Finding("cut blob", blob.digest, "it is empty", 0, "removed")
    return Finding("damaged blob", blob.digest, "its bytes have another sha256", status.st_size, "removed")


def _mend_mode(blob: StoredBlob) -> Finding | None:
    """That it could have been written to is no reason to make it again, if its bytes are right."""
    if blob.mode == BLOB_MODE:
        return None
    with contextlib.suppress(OSError):
        os.chmod(blob.path, BLOB_MODE)
        if stat.S_IMODE(os.stat(blob.path).st_mode) == BLOB_MODE:
            return Finding(
                "permissions", blob.digest, f"{blob.mode:03o} instead of {BLOB_MODE:03o}", blob.size, "mended"
            )
    return None  # somebody else's, or a file system without permissions: nothing has gone wrong


def _check_action(inventory: Inventory, action: StoredAction, bad: set[str]) -> Finding | None:
    """Raises ``OSError`` when a bad one cannot be removed."""
    result = action.result
    if result is None or not _agrees(inventory, result):
        finding = Finding("damaged entry", action.key, "it does not say what its key promises", action.size, "removed")
    elif result.tree in bad or not inventory.is_usable(action):
        finding = Finding("lost output", action.key, f"what {result.action} made is gone", action.size, "removed")
    else:
        return None
    with contextlib.suppress(FileNotFoundError):
        os.unlink(action.path)
    return finding


def _agrees(inventory: Inventory, result: ActionResult) -> bool:
    if result.is_blob:
        return True
    tree = inventory.tree(result.tree)
    return action_key(list(result.parts)) == result.key and (tree is None or tree.size == result.size)
