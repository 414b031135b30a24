"""Garbage collection: what has to go from a cache folder for its limits to hold, and taking it away.

Least recently used results go first. What goes is first planned, without touching anything, and then removed in such an
order that the cache is valid at every moment: entries of the action cache before the blobs that they name.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.events import progress
from flatpack_build.fs import remove_tree
from flatpack_build.limits import Limits
from flatpack_build.store.inventory import Inventory, Leftover, StoredAction, StoredBlob, take_inventory
from flatpack_build.store.local import Scratch, cannot
from flatpack_build.store.projects import Registration
from flatpack_build.store.roots import Roots, find_roots
from flatpack_build.store.use import have_alone, note_collection

GRACE = 3600.0
"""Seconds. What nothing refers to is left alone for so long: a build of another version may be about to refer to it."""


@dataclass(frozen=True)
class Collection:
    """What goes, in order, and what is left. All sizes are in bytes."""

    actions: tuple[StoredAction, ...]
    """Least recently used first, after those that are of no use."""
    blobs: tuple[StoredBlob, ...]
    leftovers: tuple[Leftover, ...]
    gone: tuple[Registration, ...]
    size_before: int
    size_after: int
    locked: int
    """What is kept because locks need it, or might."""
    young: int
    """What nothing refers to, kept because it is so new."""
    over: int
    """How much more than the limit is left, because it is protected in one of these ways; else 0."""
    unreadable: tuple[str, ...]
    """Locks that cannot be read. Because of them every fetched source is kept."""


def plan_collection(inventory: Inventory, limits: Limits, roots: Roots, *, now: float) -> Collection:
    """Decide what goes. ``now``: seconds since the epoch. Reads trees, changes nothing."""
    useless = [action for action in inventory.actions if not inventory.is_usable(action)]
    usable = sorted(
        (replace(action, used=roots.last_use(action)) for action in inventory.actions if inventory.is_usable(action)),
        key=lambda item: (item.used, item.key),
    )
    reach = {action.key: _reach(inventory, action) for action in usable}
    uses = Counter(digest for digests in reach.values() for digest in digests)
    protected = {action.key for action in usable if _is_protected(action, roots)}
    idle = [blob for digest, blob in inventory.blobs.items() if not uses[digest]]
    # A crash, or this very clock, may have set a time in the future: that is no reason to keep a thing for ever.
    blobs = [blob for blob in idle if abs(now - blob.changed) > GRACE]
    leftovers = tuple(left for left in inventory.leftovers if abs(now - left.changed) > GRACE)
    before = inventory.size
    young = _bytes(idle) - _bytes(blobs) + _bytes(inventory.leftovers) - _bytes(leftovers)
    size = before - _bytes(useless) - _bytes(blobs) - _bytes(leftovers)
    dropped: list[StoredAction] = []
    for action in usable:
        too_old = limits.max_age is not None and now - action.used > limits.max_age
        # What is young will go by itself: no result has to make room for it.
        too_much = limits.max_size is not None and size - young > limits.max_size
        if action.key in protected or not (too_old or too_much):
            continue
        dropped.append(action)
        size -= action.size
        uses.subtract(reach[action.key])
        freed = [inventory.blobs[digest] for digest in reach[action.key] if not uses[digest]]
        blobs += freed
        size -= _bytes(freed)
    locked = {digest for key in protected for digest in reach[key]}
    return Collection(
        actions=(*useless, *dropped),
        blobs=tuple(blobs),
        leftovers=leftovers,
        gone=roots.gone,
        size_before=before,
        size_after=size,
        locked=sum(inventory.blobs[digest].size for digest in locked),
        young=young,
        over=max(0, size - limits.max_size) if limits.max_size is not None else 0,
        unreadable=roots.unreadable,
    )


def _reach(inventory: Inventory, action: StoredAction) -> frozenset[Digest]:
    assert action.result is not None, "only for usable entries"
    digests = {*inventory.outputs(action.result), *inventory.small_inputs(action.result)}
    return frozenset(digests & inventory.blobs.keys())


def _is_protected(action: StoredAction, roots: Roots) -> bool:
    fetched = action.result is not None and action.result.step == "fetch"
    return action.key in roots.keys or (fetched and bool(roots.unreadable))


def _bytes(items: Iterable[StoredAction | StoredBlob | Leftover]) -> int:
    return sum(item.size for item in items)


def preview(root: Path, limits: Limits, *, now: float) -> Collection:
    """What ``collect`` would do. Raises ``StoreError``."""
    return plan_collection(take_inventory(root), limits, find_roots(root), now=now)


def collect(root: Path, limits: Limits, *, now: float) -> Collection:
    """Clean the cache in ``root``, which the caller has alone (``use.have_alone``). Raises ``StoreError``.

    A kill at any moment leaves a valid cache; what it left undone, the next collection does.
    """
    if not root.exists():
        return Collection((), (), (), (), 0, 0, 0, 0, 0, ())
    collection = preview(root, limits, now=now)
    note_collection(root, now=now)
    try:
        removed: tuple[StoredAction | StoredBlob | Leftover, ...] = (
            *collection.actions, *collection.blobs, *collection.leftovers,
        )  # fmt: skip
        for number, item in enumerate(removed, 1):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(item.path)
            progress(number, len(removed), "files")
        for project in collection.gone:
            project.file.unlink(missing_ok=True)
        _sweep(root, now)
    except OSError as error:
        raise cannot("remove something", error, root) from error
    return collection


def _sweep(root: Path, now: float) -> None:
    """Remove the temporary folders and the locks of dead processes."""
    Scratch(root).sweep()
    if (root / "tmp").is_dir():
        for entry in os.scandir(root / "tmp"):
            nobodys = entry.is_dir(follow_symlinks=False) and not os.path.exists(entry.path + ".lock")
            if nobodys and abs(now - entry.stat(follow_symlinks=False).st_mtime) > GRACE:
                remove_tree(Path(entry.path))


def collect_if_free(root: Path, limits: Limits, *, now: float) -> Collection | None:
    """``collect`` without waiting: ``None`` when somebody uses the cache. Raises ``StoreError``."""
    try:
        lock = have_alone(root, wait=False)
    except OSError as error:
        raise cannot("lock", error, root) from error
    if lock is None:
        return None
    try:
        return collect(root, limits, now=now)
    finally:
        lock.release()
