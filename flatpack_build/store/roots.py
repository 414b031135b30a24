"""What a cache must keep whatever its limits say: the fetched sources that the locks of its projects name.

Reads lock files and nothing else of a project: a source is kept for everybody who may still want to build from it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.digest import ActionKey
from flatpack_build.errors import LockError
from flatpack_build.fingerprint import action_key, walk
from flatpack_build.manifest.lock import read_lock
from flatpack_build.params import FetchParams
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


def fetch_key(params: FetchParams) -> ActionKey:
    """The key of a fetch action without inputs, as the builder makes it."""
    return action_key(list(walk(params, {}, {})))


def find_roots(cache: Path) -> Roots:
    """Read the locks of all projects that are registered with ``cache``. Raises ``StoreError``."""
    keys: set[ActionKey] = set()
    unreadable: list[str] = []
    gone: list[Registration] = []
    projects = 0
    try:
        for project in registered(cache):
            if project.gone:
                gone.append(project)
                continue
            projects += 1
            for file in _locks(project.warehouse, unreadable):
                try:
                    keys |= _keys(file)
                except LockError as error:
                    unreadable.append(f"{file}: {error.message}")
    except OSError as error:
        raise cannot("read the list of projects", error, cache) from error
    return Roots(frozenset(keys), tuple(unreadable), tuple(gone), projects)


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
