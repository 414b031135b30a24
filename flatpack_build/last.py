"""What each task of a flatpack was when it was last built or found up to date: its key, and those of all it was made from.

One small file for each flatpack; only explanations read it, and a build is the same without. Knows no store and no doit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flatpack_build.digest import ActionKey, canonical_json
from flatpack_build.fs import atomic_write
from flatpack_build.graph import Graph

_FORMAT = 1


@dataclass(frozen=True)
class Last:
    """``keys``: task -> its key. ``earlier``: task -> those of the actions it was made from that have run again since,
    with the keys that they had then."""

    keys: Mapping[str, ActionKey] = field(default_factory=dict)
    earlier: Mapping[str, Mapping[str, ActionKey]] = field(default_factory=dict)

    def then(self, task: str, action: str) -> ActionKey | None:
        """The key of ``action`` (the task itself, or one that it is made from) when ``task`` was last built."""
        if task not in self.keys:
            return None
        return self.earlier.get(task, {}).get(action) or self.keys.get(action)

    def after(self, graph: Graph, keys: Mapping[str, ActionKey]) -> Last:
        """What is to be remembered once the actions in ``keys`` have these keys. Tasks that are gone are left out."""
        now = {name: key for name, key in {**self.keys, **keys}.items() if name in graph.actions}
        earlier = {}
        for task in now:
            if task in keys:
                continue  # a task is built after, and from, what it needs as that is now
            then = {action: self.then(task, action) for action in graph.closure([task]) - {task}}
            changed = {action: key for action, key in then.items() if key is not None and key != now.get(action)}
            if changed:
                earlier[task] = changed
        return Last(now, earlier)


def last_file(folder: Path, flatpack: str) -> Path:
    return folder / f"{flatpack}.json"


def read_last(path: Path) -> Last:
    """What was remembered; nothing when the file is absent or damaged."""
    try:
        value = json.loads(path.read_bytes())
        if value["format"] != _FORMAT:
            return Last()
        keys = {str(task): ActionKey(key) for task, key in value["keys"].items()}
        earlier = {
            str(task): {str(action): ActionKey(key) for action, key in then.items()}
            for task, then in value["earlier"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Last()
    return Last(keys, earlier)


def write_last(path: Path, last: Last) -> None:
    """Raises ``OSError``."""
    atomic_write(path, canonical_json({"format": _FORMAT, "keys": last.keys, "earlier": last.earlier}))
