"""Makes ``flatpack.lock``: resolves every source of a flatpack, and keeps in the cache what had to be downloaded for that.

Knows the project and the sources; no doit. The terminal is the caller's: it hands in a view.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from flatpack_build.digest import Json
from flatpack_build.errors import FlatpackError, LockError, Place, PlanError
from flatpack_build.events import listening
from flatpack_build.fetching.sources import resolve_source, resolve_wheels
from flatpack_build.fingerprint import action_key, walk
from flatpack_build.fs import temporary_folder
from flatpack_build.manifest.document import Document, read_document
from flatpack_build.manifest.load import check_name, load_manifest
from flatpack_build.manifest.lock import Lock, LockedSource, write_lock
from flatpack_build.needs import all_needs
from flatpack_build.params import FetchParams
from flatpack_build.planner import profile_folders
from flatpack_build.project import Project
from flatpack_build.runner import Runner
from flatpack_build.store.folders import take_folder
from flatpack_build.store.protocol import ActionResult
from flatpack_build.targets import HOST, host_profile, load_profile
from flatpack_build.views import Row, View, size_text


class _SourceRow(Row):
    """The row of one source. Locking leaves no result that could say what was noted."""

    def note(self, text: str) -> None:
        self._view.line(f"           {text}")


def lock_flatpack(project: Project, name: str, runner: Runner, view: View) -> Lock:
    """Resolve everything that flatpack ``name`` needs and write its lock file, whole or not at all.

    Raises ``FlatpackError``; the place is that of the source in the manifest.
    """
    folder = project.flatpack_folder(name)
    file = folder / "flatpack.toml"
    document = read_document(file)
    manifest = load_manifest(file)
    check_name(manifest, file)
    profiles = {}
    for index, target in enumerate(manifest.build_targets):
        try:
            profiles[target] = host_profile() if target == HOST else load_profile(target, profile_folders(project))
        except PlanError as error:
            raise PlanError(error.message, place=document.value_place(("targets", index)), hint=error.hint) from error
    sources, wheels = all_needs(manifest, profiles)
    locked: dict[str, LockedSource] = {}
    for source in sources:
        with _reporting(view, source), _placing(document, source):
            locked[source] = _lock_source(source, folder, runner)
        view.line(f"  locked   {source} ({size_text(locked[source].size)})")
    locked_wheels = []
    for need in wheels:
        title = f"Python packages for {need.platform}"
        with _reporting(view, title), temporary_folder(runner.scratch_folder, prefix="lock-") as work:
            start = time.monotonic()
            resolved = resolve_wheels(need.platform, need.python, need.requirements, work=work / "resolve")
            _keep(runner, resolved.locked.params(), resolved.folder, time.monotonic() - start)
        locked_wheels.append(resolved.locked)
        view.line(f"  locked   {title}: {len(resolved.locked.wheels)} wheels")
    lock = Lock(locked, tuple(locked_wheels))
    path = folder / "flatpack.lock"
    try:
        write_lock(path, lock)
    except OSError as error:
        raise LockError(f"cannot be written: {error.strerror}", place=Place(os.fspath(path))) from error
    return lock


def _lock_source(source: str, folder: Path, runner: Runner) -> LockedSource:
    with temporary_folder(runner.scratch_folder, prefix="lock-") as work:
        start = time.monotonic()
        resolved = resolve_source(source, base=folder, work=work)
        if resolved.folder is not None and not resolved.locked.is_file:
            _keep(runner, resolved.locked.params(), resolved.folder, time.monotonic() - start)
    return resolved.locked


def _keep(runner: Runner, params: FetchParams, folder: Path, seconds: float) -> None:
    """Record what was downloaded as the result of the fetch action that would download it again."""
    parts: list[tuple[str, Json]] = list(walk(params, {}, {}))
    tree = take_folder(runner.store, folder)
    name = f"lock of {params.source}"
    runner.cache.put(
        ActionResult(action_key(parts), name, "fetch", tree.digest, tree.size, round(seconds, 4), 0, (), tuple(parts))
    )


@contextlib.contextmanager
def _reporting(view: View, name: str) -> Iterator[None]:
    view.start(name)
    try:
        with listening(_SourceRow(view, name)):
            yield
    finally:
        view.end(name)


@contextlib.contextmanager
def _placing(document: Document, source: str) -> Iterator[None]:
    """Say where in the manifest a source stands that cannot be resolved."""
    try:
        yield
    except FlatpackError as error:
        if error.place is None:
            error.place = _place_of(document, source)
        raise


def _place_of(document: Document, source: str) -> Place | None:
    bare = source.removeprefix("git+").rpartition("@")[0] or source
    for number, line in enumerate(document.text.splitlines(), 1):
        for text in (source, bare):
            if text in line:
                return Place(document.file, number, line.index(text) + 1)
    return None
