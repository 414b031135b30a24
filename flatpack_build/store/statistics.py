"""What a cache folder holds, in numbers: by step, by age, the biggest, the useless. Changes nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.store.inventory import Inventory, StoredAction, take_inventory
from flatpack_build.store.local import cannot
from flatpack_build.store.roots import find_roots

_DAY = 86400.0
_AGES = (("today", _DAY), ("this week", 7 * _DAY), ("this month", 30 * _DAY), ("this year", 365 * _DAY))
_LONGER_AGO = "longer ago"
_BIGGEST = 10


@dataclass(frozen=True)
class Share:
    """A part of the cache: how many entries, and the bytes of all that they name. What two parts share is in both."""

    name: str
    actions: int
    size: int


@dataclass(frozen=True)
class Big:
    """One of the largest blobs, and the names of the actions that made it."""

    digest: Digest
    size: int
    made_by: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """All sizes are in bytes. ``unused``: of blobs that no entry names. ``locked``: of what locks need.
    ``temporary``: of the folders of running builds, and of dead ones. ``free``: of the disk; ``None`` without one."""

    blobs: int
    actions: int
    size: int
    steps: tuple[Share, ...]
    ages: tuple[Share, ...]
    biggest: tuple[Big, ...]
    unused: int
    locked: int
    temporary: int
    projects: int
    free: int | None


def take_statistics(root: Path, *, now: float) -> Statistics:
    """Count. ``now``: seconds since the epoch. Raises ``StoreError``."""
    inventory = take_inventory(root)
    roots = find_roots(root)
    usable = [action for action in inventory.actions if inventory.is_usable(action)]
    makers: dict[Digest, set[str]] = {}
    named: set[Digest] = set()
    by_step: dict[str, list[StoredAction]] = {}
    by_age: dict[str, list[StoredAction]] = {name: [] for name in (*dict(_AGES), _LONGER_AGO)}
    for action in usable:
        assert action.result is not None, "it is usable"
        for digest in inventory.outputs(action.result):
            makers.setdefault(digest, set()).add(action.result.action)
            named.add(digest)
        named.update(inventory.small_inputs(action.result))
        by_step.setdefault(action.result.step, []).append(action)
        by_age[next((name for name, age in _AGES if now - roots.last_use(action) <= age), _LONGER_AGO)].append(action)
    largest = sorted(inventory.blobs.values(), key=lambda blob: (-blob.size, blob.digest))[:_BIGGEST]
    return Statistics(
        blobs=len(inventory.blobs),
        actions=len(inventory.actions),
        size=inventory.size,
        steps=tuple(
            sorted((_share(inventory, name, part) for name, part in by_step.items()), key=lambda item: -item.size)
        ),
        ages=tuple(_share(inventory, name, part) for name, part in by_age.items()),
        biggest=tuple(Big(blob.digest, blob.size, tuple(sorted(makers.get(blob.digest, ())))) for blob in largest),
        unused=sum(blob.size for digest, blob in inventory.blobs.items() if digest not in named),
        locked=_share(inventory, "", [action for action in usable if action.key in roots.keys]).size,
        temporary=_folder_size(root / "tmp"),
        projects=roots.projects,
        free=_free(root),
    )


def _share(inventory: Inventory, name: str, actions: Iterable[StoredAction]) -> Share:
    actions = list(actions)
    digests = {digest for action in actions if action.result for digest in inventory.outputs(action.result)}
    size = sum(inventory.blobs[digest].size for digest in digests if digest in inventory.blobs)
    return Share(name, len(actions), size)


def _folder_size(folder: Path) -> int:
    size = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                size += os.lstat(os.path.join(parent, file)).st_size
            except OSError:
                continue  # gone meanwhile
    return size


def _free(root: Path) -> int | None:
    """Of the disk that the folder is on, or will be on."""
    for folder in (root, *root.parents):
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError as error:
            raise cannot("look", error, root) from error
    return None
