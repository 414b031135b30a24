"""Stamps: everything a finished build of a flatpack looked at, as ``stat`` saw it. While none of it changes there is
nothing to do, and that is known without a plan, a key or a hash.

A stamp can only say "nothing to do" too rarely, never too often: the smallest difference in inode, size or times, and the
action keys judge as ever (docs/adr/0006). Knows files and their status; no graph, no store and no doit.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from flatpack_build.fs import atomic_write_text

Signature: TypeAlias = "list[int] | None"
"""Device, inode, size, mtime and ctime in nanoseconds; ``None`` for what does not exist."""

_FORMAT = 4
# Two changes within one tick of the file system's clock leave the same times.
TICK_NS = 100_000_000
_USE_INTERVAL = 3600.0  # seconds: that a stamp was relied on is noted, as its mtime, no more often than this


def signature(path: str) -> Signature:
    """What ``stat`` says of ``path`` now."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def settled(seen: Signature, now: int) -> bool:
    """Whether what ``seen`` describes changed long enough before ``now`` (ns) that a later change will show."""
    return seen is None or now - max(seen[3], seen[4]) > TICK_NS


@dataclass(frozen=True)
class StampedBox:
    """A box that stood in place, and how."""

    target: str
    pack: str
    quant: str
    size: int
    path: str
    seen: list[int]
    beside: dict[str, Signature]
    """What belongs beside it: path -> how it stood there (``None``: nothing stood there, nor may)."""


@dataclass(frozen=True)
class Stamp:
    """``actions`` is how many actions the boxes are made by."""

    boxes: tuple[StampedBox, ...]
    actions: int


class Stamps:
    """Stamps below ``folder``. ``circumstances`` is a digest of all that concerns every flatpack alike."""

    def __init__(self, folder: str, circumstances: str) -> None:
        self._folder = folder
        self._circumstances = circumstances
        self._shared: dict[str, Signature] = {}

    def _name(self, flatpack: str) -> str:
        return f"{self._folder}/{flatpack}.json"

    def fresh(self, flatpack: str, targets: Collection[str] = (), *, relied_on: bool = True) -> Stamp | None:
        """The stamp, if nothing that it saw has changed and it has the boxes of all ``targets`` (none: of its own).

        That it was ``relied_on`` is noted, so that what its boxes are made of counts as used."""
        try:
            with open(self._name(flatpack), "rb") as file:
                value = json.loads(file.readline())
                used = os.fstat(file.fileno()).st_mtime
            if value["format"] != _FORMAT or value["circumstances"] != self._circumstances:
                return None
            for path, seen in value["own"].items():
                if signature(path) != seen:
                    return None
            for path, seen in value["shared"].items():
                if path not in self._shared:
                    self._shared[path] = signature(path)
                if self._shared[path] != seen:
                    return None
            boxes = tuple(StampedBox(**box) for box in value["boxes"])
            if targets:
                boxes = tuple(box for box in boxes if box.target in targets)
                if len(boxes) != len(targets):
                    return None
            elif not value["whole"]:
                return None
            if any(signature(box.path) != box.seen for box in boxes):
                return None
            if any(signature(path) != seen for box in boxes for path, seen in box.beside.items()):
                return None
            if relied_on and not 0 <= time.time() - used < _USE_INTERVAL:
                with contextlib.suppress(OSError):
                    os.utime(self._name(flatpack))
            return Stamp(boxes, value["actions"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent, damaged or of another version

    def put(
        self,
        flatpack: str,
        own: Mapping[str, Signature],
        shared: Mapping[str, Signature],
        stamp: Stamp,
        *,
        whole: bool,
        keys: Collection[str] = (),
    ) -> None:
        """Keep what was seen; ``whole`` says that ``stamp`` has every box of the flatpack. Not kept if unsettled.

        ``keys`` are the actions that nobody looks up while the stamp is fresh, and that are in use all the same.
        """
        now = time.time_ns()
        if not all(settled(seen, now) for seen in (*own.values(), *shared.values())):
            return
        value = {
            "format": _FORMAT,
            "circumstances": self._circumstances,
            "own": own,
            "shared": shared,
            "boxes": [asdict(box) for box in stamp.boxes],
            "actions": stamp.actions,
            "whole": whole,
        }
        atomic_write_text(self._name(flatpack), f"{json.dumps(value)}\n{' '.join(keys)}\n")


def last_uses(folder: Path) -> dict[str, float]:
    """The keys in all stamps below ``folder``, and when a build last relied on one that has it (seconds since the epoch)."""
    uses: dict[str, float] = {}
    for file in folder.glob("*.json"):
        try:
            used = file.stat().st_mtime
            _, keys = file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            continue  # gone, damaged or of another version
        for key in keys.split():
            uses[key] = max(used, uses.get(key, used))
    return uses
