"""From a flatpack's name to its graph: reads what a plan is made from, plans, and keeps the plan until any of that changes.

Knows the project's folders; no doit and no terminal. pydantic is loaded only when there is something to plan.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flatpack_build import __version__
from flatpack_build.digest import Digest, Json, canonical_json, sealed, unsealed
from flatpack_build.errors import PlanError, SourceError
from flatpack_build.fs import atomic_write
from flatpack_build.graph import Graph
from flatpack_build.host import Host, look_at_host
from flatpack_build.project import Project
from flatpack_build.resources import builtin_folder
from flatpack_build.stamps import Signature, settled, signature

if TYPE_CHECKING:
    from flatpack_build.manifest.profile import Profile

_FORMAT = 1
SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True)
class Target:
    """What a flatpack is built for, as far as the manifest alone says it."""

    flatpack: str
    names: tuple[str, ...]


def list_files(folder: Path, seen: dict[str, Signature] | None = None) -> tuple[str, ...]:
    """The files of a flatpack as sorted relative paths. Hidden ones and Python's caches are left out; links are followed
    when they stay inside the folder, and refused when they lead out of it. ``seen`` is told each folder's status."""
    found: list[str] = []
    top = os.path.realpath(folder)

    def visit(path: str, prefix: str, depth: int) -> None:
        if seen is not None:
            seen[path] = signature(path)
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in SKIPPED_FOLDERS:
                    continue
                name = prefix + entry.name
                if not _is_utf8(entry.name):
                    raise SourceError(
                        f"{os.fsencode(entry.path).decode(errors='replace')} has a name that is not UTF-8",
                        hint="give it another name, or hide it from the build with a dot before it",
                    )
                if entry.is_symlink():
                    real = os.path.realpath(entry.path)
                    if real != top and not real.startswith(top + os.sep):
                        raise SourceError(
                            f"{entry.path} is a link that leads out of the flatpack's folder",
                            hint="copy the file into the flatpack, or name it as a source",
                        )
                if entry.is_dir():
                    if depth > 64:
                        raise SourceError(
                            f"{entry.path} is nested too deeply", hint="does a link lead back to its parent?"
                        )
                    visit(entry.path, name + "/", depth + 1)
                elif entry.is_file():
                    found.append(name)
                else:
                    raise SourceError(
                        f"{entry.path} is neither a file nor a folder, or a broken link",
                        hint="remove it from the flatpack",
                    )

    visit(os.fspath(folder), "", 0)
    return tuple(sorted(found))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def profile_folders(project: Project) -> tuple[Path, ...]:
    """Where profiles are looked for: the project's own win over the built-in ones."""
    return (builtin_folder("targets"), project.targets)


class Planner:
    """Graphs of flatpacks, from the kept plan where it still holds. Without ``keep`` it writes nothing.

    ``host`` looks at the machine that the target of that name means.
    """

    def __init__(self, project: Project, *, keep: bool = True, host: Callable[[], Host] = look_at_host) -> None:
        self._project = project
        self._look_at_host = host
        self._keep = keep
        self._profiles: dict[str, tuple[list[Signature], Profile]] = {}
        self.read: dict[str, tuple[str, ...]] = {}
        """Flatpack -> the files whose content decides what its graph looks like."""
        self.seen: dict[str, dict[str, Signature]] = {}
        """Flatpack -> everything that its plan was made from, as it was when it was read. A flatpack is missing here when
        something of it changed so recently that this cannot be said."""

    @cached_property
    def _host(self) -> Host:
        return self._look_at_host()

    def lock_file(self, name: str) -> Path:
        return self._project.flatpack_folder(name) / "flatpack.lock"

    def graph(self, name: str) -> Graph:
        """Raises ``FlatpackError``; ``LockError`` when there is no lock or it does not match."""
        folder = self._project.flatpack_folder(name)
        seen: dict[str, Signature] = {}
        files = list_files(folder, seen)
        kept = self._kept_file(name)
        try:
            value = json.loads(unsealed(kept.read_bytes()))
            seen.update((path, signature(path)) for path in value["read"] if path != _HOST)
            if value["made from"] == self._made_from(name, files, value["read"]):
                self.seen[name] = seen
                self.read[name] = tuple(path for path in value["read"] if path != _HOST)
                return Graph.from_json(value["graph"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # absent, damaged or of another version: plan anew
        return self._plan(name, folder, files, kept, seen)

    def targets(self, name: str) -> Target:
        """What the manifest says it is built for; needs no lock."""
        from flatpack_build.manifest.load import check_name, load_manifest  # pydantic: not on the hot path

        path = self._project.flatpack_folder(name) / "flatpack.toml"
        manifest = load_manifest(path)
        check_name(manifest, path)
        return Target(manifest.name, manifest.build_targets)

    def _kept_file(self, name: str) -> Path:
        return self._project.build / "plans" / f"{name}.json"

    def _profile(self, target: str, load: Callable[[str, Sequence[Path]], Profile]) -> Profile:
        """Read once for all flatpacks, as long as its files stay as they are. Raises ``PlanError``, ``ManifestError``."""
        folders, now = profile_folders(self._project), time.time_ns()
        seen = [signature(f"{folder}/{target}.toml") for folder in folders]
        known = self._profiles.get(target)
        if known is not None and known[0] == seen:
            return known[1]
        profile = load(target, folders)
        if all(settled(status, now) for status in seen):  # else it may change once more, and still look the same
            self._profiles[target] = seen, profile
        return profile

    def _made_from(self, name: str, files: tuple[str, ...], read: Collection[str]) -> Json:
        """Everything that decides the plan, digested. ``read`` are the files whose content went into it."""
        digests = {path: _digest_or_absent(path) for path in sorted(read)}
        # A project folder may be shared, and a machine get another Python or a driver.
        host: Json = list(astuple(self._host)) if _HOST in read else None
        return Digest.of_bytes(
            canonical_json([_FORMAT, __version__, name, os.fspath(self._project.root), list(files), digests, host])
        )

    def _plan(self, name: str, folder: Path, files: tuple[str, ...], kept: Path, seen: dict[str, Signature]) -> Graph:
        started = time.time_ns()
        from flatpack_build.manifest.document import read_document  # these bring pydantic: not on the hot path
        from flatpack_build.manifest.load import check_name, load_manifest
        from flatpack_build.manifest.lock import check_lock, read_lock
        from flatpack_build.needs import all_needs
        from flatpack_build.plan.draft import Question
        from flatpack_build.plan.graph import plan
        from flatpack_build.targets import host_profile, load_profile

        manifest_file, lock_file = folder / "flatpack.toml", folder / "flatpack.lock"
        read = {os.fspath(manifest_file), os.fspath(lock_file), os.fspath(self._project.root / "pyproject.toml")}
        document = read_document(manifest_file)
        manifest = load_manifest(manifest_file)
        check_name(manifest, manifest_file)
        profiles = {}
        for index, target in enumerate(manifest.build_targets):
            if target == "host":
                profiles[target] = host_profile(self._host)
                read.add(_HOST)
                continue
            try:
                profiles[target] = self._profile(target, load_profile)
            except PlanError as error:
                raise PlanError(
                    error.message, place=document.value_place(("targets", index)), hint=error.hint
                ) from error
            read |= {os.fspath(place / f"{target}.toml") for place in profile_folders(self._project)}
        lock = read_lock(lock_file)
        sources, wheels = all_needs(manifest, profiles)
        check_lock(
            lock,
            sources,
            [(need.platform, need.python, need.requirements) for need in wheels],
            os.fspath(lock_file),
            name,
        )

        def read_text(path: str) -> str:
            for place in (folder / path, self._project.root / path):
                read.add(os.fspath(place))  # that there is none decides as well
                if place.is_file():
                    return _read_key(place)
            raise PlanError(
                f"there is no key file {path!r}",
                place=document.key_place(("model", "public_keys")),
                hint="its path is relative to the flatpack's folder, or to the project's",
            )

        question = Question(
            manifest=manifest,
            folder=os.fspath(folder),
            files=files,
            lock=lock,
            profiles=profiles,
            trusted_keys=tuple(read_text(os.fspath(path)) for path in self._project.trusted_keys),
            where=document.key_place,
            read_text=read_text,
        )
        graph = plan(question)
        self.read[name] = tuple(sorted(read - {_HOST}))
        seen.update((path, signature(path)) for path in read if path != _HOST)
        if not all(settled(status, started) for status in seen.values()):
            return graph  # something may have changed after it was read: what is kept now could lie later
        self.seen[name] = seen
        value: Json = {
            "read": sorted(read),
            "made from": self._made_from(name, files, read),
            "graph": graph.to_json(),
        }
        if self._keep:
            with contextlib.suppress(OSError):  # where it cannot be kept it is made anew each time
                atomic_write(kept, sealed(canonical_json(value)))
        return graph


_HOST = "(this machine)"


def _read_key(file: Path) -> str:
    """A public key, which becomes part of the plan and of what is kept. Raises ``PlanError``."""
    hint = "a public key is a PEM file: a text that begins with -----BEGIN PUBLIC KEY-----"
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PlanError(f"the key file {file} is no text", hint=hint) from error
    except OSError as error:
        raise PlanError(f"the key file {file} cannot be read: {error.strerror}", hint=hint) from error
    if "PRIVATE KEY" in text:
        raise PlanError(f"{file} is a private key, and a public one is wanted", hint="name the .pub.pem beside it")
    return text


def _digest_or_absent(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return Digest.of_bytes(file.read())
    except OSError:
        return "absent"
