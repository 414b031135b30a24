"""What depends on a file, and what an action or a box depends on. Reads only; knows no doit and no terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.action import Action, SourceFile, SourceTree
from flatpack_build.digest import Digest
from flatpack_build.errors import UsageError
from flatpack_build.graph import Graph
from flatpack_build.inspection import Inspection
from flatpack_build.params import FetchParams
from flatpack_build.planner import profile_folders


@dataclass(frozen=True)
class Use:
    """What of one flatpack depends on a file. ``decides``: the file decides what the actions are (a manifest, a profile);
    ``direct`` read it themselves, ``indirect`` take what those make; ``boxes`` are the files' names."""

    flatpack: str
    decides: bool
    direct: tuple[str, ...]
    indirect: tuple[str, ...]
    boxes: tuple[str, ...]


@dataclass(frozen=True)
class UsesOf:
    """``unlocked``: flatpacks of which nothing is known yet."""

    file: str
    uses: tuple[Use, ...]
    unlocked: tuple[str, ...]


def uses(inspection: Inspection, path: Path) -> UsesOf:
    """What depends on a file, or on any file in a folder, in all flatpacks. Raises ``FlatpackError``."""
    if not path.exists():
        raise UsageError(f"there is no file {path}", hint="the path is relative to the current folder")
    wanted = os.path.realpath(path)
    profiles = _profile_folders(inspection)
    found, unlocked = [], []
    for flatpack in inspection.project.flatpacks():
        if not inspection.locked(flatpack):
            unlocked.append(flatpack)
            continue
        use = _use(inspection.graph(flatpack), inspection.plan_files(flatpack), wanted, profiles)
        if use is not None:
            found.append(use)
    return UsesOf(_shown(inspection, wanted), tuple(found), tuple(unlocked))


def _use(graph: Graph, plan_files: Sequence[str], wanted: str, profiles: Sequence[str]) -> Use | None:
    deciding = [path for path in plan_files if _is_in(path, wanted)]
    decides = bool(deciding)
    direct = [name for name, action in graph.actions.items() if any(_is_in(path, wanted) for path in _files(action))]
    if not direct and not decides:
        return None
    after: set[str] = set(direct)
    for name, action in graph.actions.items():  # in an order in which all needs come first
        if after.intersection(action.needs):
            after.add(name)
    indirect = tuple(name for name in graph.actions if name in after and name not in direct)
    boxes = tuple(
        box.file_name
        for box in graph.boxes
        if box.pack in after or any(_concerns(path, box.target, profiles) for path in deciding)
    )
    return Use(graph.flatpack, decides, tuple(direct), indirect, boxes)


def _files(action: Action) -> list[str]:
    """The user's files that an action reads, as absolute paths."""
    found = []
    for source in action.inputs.values():
        if isinstance(source, SourceFile):
            found.append(source.path)
        elif isinstance(source, SourceTree):
            found += [os.path.join(source.root, path) for path in source.files]
    return found


def _profile_folders(inspection: Inspection) -> tuple[str, ...]:
    return tuple(os.path.realpath(folder) for folder in profile_folders(inspection.project))


def _concerns(path: str, target: str, profiles: Sequence[str]) -> bool:
    """Whether a file that plans are made from says something about ``target``: a profile is about its own only."""
    folder, name = os.path.split(os.path.realpath(path))
    return folder not in profiles or name == f"{target}.toml"


def _shown(inspection: Inspection, path: str) -> str:
    """Relative to the project where it lies in it."""
    inside = os.path.relpath(path, os.path.realpath(inspection.project.root))
    return path if inside.startswith("..") else inside


def _is_in(path: str, wanted: str) -> bool:
    real = os.path.realpath(path)
    return real == wanted or real.startswith(wanted + os.sep)


@dataclass(frozen=True)
class NeededFile:
    """A file of the user's: its path relative to the project, bytes and digest as they are now."""

    path: str
    size: int
    digest: Digest


@dataclass(frozen=True)
class NeededSource:
    """What is fetched: as the lock names it, what it stood for, and the sha256 of each file that comes."""

    source: str
    identity: Mapping[str, str]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Needs:
    """``decided_by``: the files that say what the actions are (manifest, lock, profiles)."""

    name: str
    actions: tuple[str, ...]
    files: tuple[NeededFile, ...]
    decided_by: tuple[str, ...]
    sources: tuple[NeededSource, ...]
    tools: Mapping[str, str]


def needs(inspection: Inspection, name: str) -> Needs:
    """Everything that a box (its file, or ``chat@pi5``), a task or a flatpack depends on. Raises ``FlatpackError``."""
    flatpack, graph, closure = _named(inspection, name)
    files: dict[str, NeededFile] = {}
    sources: dict[str, NeededSource] = {}
    tools: dict[str, str] = {}
    for action_name, action in graph.actions.items():
        if action_name not in closure:
            continue
        for path in _files(action):
            digest, status = inspection.digest(flatpack, path)
            shown = _shown(inspection, os.path.realpath(path))
            files[shown] = NeededFile(shown, status.st_size, digest)
        if isinstance(action.params, FetchParams):
            sources[action_name] = NeededSource(action.params.source, action.params.identity, action.params.files)
        for tool in action.params.tools:
            tools[tool] = inspection.version(tool)
    targets = [box.target for box in graph.boxes if box.pack in closure]
    targets = targets or [box.target for box in graph.boxes if closure & graph.closure([box.pack])]
    profiles = _profile_folders(inspection)
    decided_by = tuple(
        _shown(inspection, os.path.realpath(path))
        for path in inspection.plan_files(flatpack)
        if Path(path).exists() and any(_concerns(path, target, profiles) for target in targets)
    )
    return Needs(
        name,
        tuple(action for action in graph.actions if action in closure),
        tuple(files[path] for path in sorted(files)),
        decided_by,
        tuple(sources.values()),
        dict(sorted(tools.items())),
    )


def _named(inspection: Inspection, name: str) -> tuple[str, Graph, frozenset[str]]:
    for flatpack in inspection.flatpacks([name]):
        inspection.need_lock(flatpack)
    (selected,) = inspection.select([name])[:1]
    graph = inspection.graph(selected.flatpack)
    return selected.flatpack, graph, graph.closure(selected.actions)
