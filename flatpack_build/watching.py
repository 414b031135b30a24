"""Waits for changes of what flatpacks are built from. Knows where that lies; builds nothing and prints nothing.

Folders are watched by the system (inotify, FSEvents) through watchfiles; single files elsewhere in the project, and folders
that come and go, are looked at a few times a second.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.errors import FlatpackError, UsageError
from flatpack_build.planner import SKIPPED_FOLDERS, list_files
from flatpack_build.project import SETTINGS_FILE, Project
from flatpack_build.stamps import Signature, signature

_LOOK_MS = 250
_QUIET_MS = 100
"""A burst of changes (a checkout, an editor that writes, renames and removes) is over when nothing happened for this long."""
_PATIENCE_MS = 2000
"""And is taken as over after this long in any case."""

# Hidden files are left out below; these are the others that editors and tools leave beside what they write.
_TEMPORARY = re.compile(r".*~|#.*#|.*\.(?:tmp|temp|swp|swo|swx|bak)|.*___jb_(?:tmp|old)___")


@dataclass(frozen=True)
class Watched:
    """``folders`` are watched with everything in them, ``profiles`` only for profiles, ``files`` one by one.

    What lies below ``ignored`` is what builds make. All paths are absolute.
    """

    folders: tuple[Path, ...]
    profiles: Path
    files: tuple[Path, ...]
    ignored: tuple[Path, ...]


def what_to_watch(project: Project, flatpacks: Collection[str]) -> Watched:
    """Raises ``UsageError`` for a flatpack that does not exist."""
    return Watched(
        tuple(project.flatpack_folder(name) for name in dict.fromkeys(flatpacks)),
        project.targets,
        (project.root / SETTINGS_FILE, *project.trusted_keys),
        (project.build, project.dist, project.cache),
    )


class Watch:
    """``start`` begins to watch; ``changes`` then gives what has changed since, so that no edit during a build is lost."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._bursts = self._watch()
        self._files: Mapping[Path, Signature] = {}
        self._places: Mapping[Path, tuple[int, int] | None] = {}
        self._known: frozenset[Path] = frozenset()

    def start(self) -> None:
        """From here on nothing is missed. Raises ``UsageError`` when the system cannot watch."""
        self._files, self._places, self._known = self._look(), self._look_at_places(), self._list()
        next(self._bursts)

    def changes(self) -> Iterator[frozenset[Path]]:
        """Each burst of changes, as the paths that changed; none of them is empty. Never ends by itself."""
        while True:
            changed: set[Path] = set()
            if burst := next(self._bursts):
                known = self._list()
                # Of a folder that was moved in or out, the system names only the folder.
                changed = {path for path in (*burst, *(known ^ self._known)) if self._matters(path, known)}
                self._known = known
            files, places = self._look(), self._look_at_places()
            changed |= {path for path in files if files[path] != self._files.get(path)}
            moved = {path for path in places if places[path] != self._places.get(path)}
            self._files, self._places = files, places
            if moved:  # the system still watches the old folder, if any
                self._bursts = self._watch()
                next(self._bursts)
                self._known = self._list()
            if changed or moved:
                yield frozenset(changed | moved)

    def _watch(self) -> Iterator[Collection[Path]]:
        from watchfiles import watch  # a compiled library, and only this command needs it

        places = [path for path in (*self._watched.folders, self._watched.profiles) if path.is_dir()]
        if not places:  # all of them were removed: wait for one to come back
            while True:
                time.sleep(_LOOK_MS / 1000)
                yield ()
        try:
            for burst in watch(
                *places,
                watch_filter=None,
                step=_QUIET_MS,
                debounce=_PATIENCE_MS,
                rust_timeout=_LOOK_MS,
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                yield [Path(path) for _, path in burst]
        except OSError as error:
            raise UsageError(
                f"the system cannot watch for changes: {error}",
                hint="raise fs.inotify.max_user_watches (sysctl), or look for changes instead: WATCHFILES_FORCE_POLLING=1",
            ) from error

    def _matters(self, path: Path, known: frozenset[Path]) -> bool:
        """Whether a build could see the difference; ``known`` are the files that it would see."""
        watched = self._watched
        if any(path.is_relative_to(folder) for folder in watched.ignored):
            return False
        for folder in watched.folders:
            if path.is_relative_to(folder):
                parts = path.relative_to(folder).parts
                if not parts or any(part.startswith(".") or part in SKIPPED_FOLDERS for part in parts):
                    return False
                # What came and went within one burst was somebody's temporary file, whatever its name.
                return not _TEMPORARY.fullmatch(parts[-1]) and (path in known or path in self._known)
        return path.parent == watched.profiles and path.suffix == ".toml" and not path.name.startswith(".")

    def _look(self) -> Mapping[Path, Signature]:
        return {path: signature(os.fspath(path)) for path in self._watched.files}

    def _look_at_places(self) -> Mapping[Path, tuple[int, int] | None]:
        found: dict[Path, tuple[int, int] | None] = {}
        for path in (*self._watched.folders, self._watched.profiles):
            try:
                status = os.stat(path)
            except OSError:
                found[path] = None
            else:
                found[path] = (status.st_dev, status.st_ino)
        return found

    def _list(self) -> frozenset[Path]:
        """The files that a build would see now."""
        found: set[Path] = set()
        for folder in self._watched.folders:
            try:
                found.update(folder / name for name in list_files(folder))
            except (FlatpackError, OSError):
                continue  # the build says what is wrong with it
        return frozenset(found)
