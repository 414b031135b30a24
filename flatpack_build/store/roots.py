"""What the projects of a cache need of it: the fetched sources that their locks name, which are kept whatever the limits
say, and the results that their last builds relied on without looking them up.

Reads lock files and stamps, and nothing else of a project.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flatpack_build.digest import ActionKey
from flatpack_build.errors import LockError
from flatpack_build.fingerprint import action_key, walk
from flatpack_build.manifest.lock import read_lock
from flatpack_build.params import FetchParams
from flatpack_build.stamps import last_uses
from flatpack_build.store.inventory import StoredAction
from flatpack_build.store.local import cannot
from flatpack_build.store.projects import Registration, registered


@dataclass(frozen=True)
class Roots:
    """``keys``: the fetch actions that locks need. ``unreadable``: locks of which that cannot be said, and why;
    while there are any, no fetched source may go. ``gone``: registrations of projects that are no more."""

    keys: frozenset[ActionKey]
    unreadable: tuple[str, ...] = ()
    gone: tuple[Registration, ...] = ()
    projects: int = 0
    """How many there are, without those that are gone."""
    uses: Mapping[str, float] = field(default_factory=dict)
    """Action key -> when a build relied on it without asking the cache, in seconds since the epoch."""

    def last_use(self, action: StoredAction) -> float:
        """When it was used last, by a build that asked the cache or by one that did not have to."""
        return max(action.used, self.uses.get(action.key, action.used))


def fetch_key(params: FetchParams) -> ActionKey:
    """The key of a fetch action without inputs, as the builder makes it."""
    return action_key(list(walk(params, {}, {})))


def find_roots(cache: Path) -> Roots:
    """Read the locks of all projects that are registered with ``cache``. Raises ``StoreError``."""
    keys: set[ActionKey] = set()
    unreadable: list[str] = []
    gone: list[Registration] = []
    projects = 0
    uses: dict[str, float] = {}
    try:
        for project in registered(cache):
            if project.gone:
                gone.append(project)
                continue
            projects += 1
            for key, used in last_uses(project.stamps).items():
                uses[key] = max(used, uses.get(key, used))
            for file in _locks(project.warehouse, unreadable):
                try:
                    keys |= _keys(file)
                except LockError as error:
                    unreadable.append(f"{file}: {error.message}")
    except OSError as error:
        raise cannot("read the list of projects", error, cache) from error
    return Roots(frozenset(keys), tuple(unreadable), tuple(gone), projects, uses)


def _locks(warehouse: Path, unreadable: list[str]) -> list[Path]:
    """The lock files of a warehouse; a folder that may not be looked into is ``unreadable``."""
    found = []
    try:
        for folder in sorted(os.scandir(warehouse), key=lambda folder: folder.name):
            file = Path(folder.path, "flatpack.lock")
            try:
                os.stat(file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            found.append(file)
    except FileNotFoundError:
        pass  # a project without flatpacks needs nothing
    except OSError as error:
        unreadable.append(f"{error.filename or warehouse}: {error.strerror}")
    return found


def _keys(file: Path) -> set[ActionKey]:
    lock = read_lock(file)
    sources = {fetch_key(source.params()) for source in lock.sources.values() if not source.is_file}
    return sources | {fetch_key(wheels.params()) for wheels in lock.wheels}
