"""Which projects build with a cache: one tiny file each, so that what they need can be kept. Reads nothing of theirs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.fs import atomic_write
from flatpack_build.project import Project

_FOLDER = "projects"


@dataclass(frozen=True)
class Registration:
    """A project that has built with this cache, and the ``file`` that says so."""

    file: Path
    root: Path
    warehouse: Path
    stamps: Path

    @property
    def gone(self) -> bool:
        """Whether the project's folder is certainly no more: one that may not be looked at is not gone."""
        try:
            os.stat(self.root)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False


def register(project: Project) -> None:
    """Note that a project builds with its cache. One look-up when that is known already.

    A failure to write is let go: the cache cannot be written then, and so cannot be cleaned up either.
    """
    places = {
        "root": os.fspath(project.root),
        "warehouse": os.fspath(project.warehouse),
        "stamps": os.fspath(project.stamps),
    }
    data = json.dumps(places, sort_keys=True).encode()
    file = project.cache / _FOLDER / f"{Digest.of_bytes(data)[:32]}.json"
    with contextlib.suppress(OSError):
        try:
            known = file.stat().st_size == len(data)  # a power cut may have left it short
        except FileNotFoundError:
            known = False
        if not known:
            atomic_write(file, data)


def registered(cache: Path) -> Iterator[Registration]:
    """All of them, sorted by file name. Raises ``OSError`` for one that may not be read."""
    for file in sorted((cache / _FOLDER).glob("*.json")):
        try:
            value = json.loads(file.read_bytes())
            yield Registration(file, *(Path(value[name]) for name in ("root", "warehouse", "stamps")))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue  # cut short by a power cut: the next build of that project writes it again
