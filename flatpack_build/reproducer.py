"""Makes a box once more, from the project's sources and in a cache of its own, and says in what it differs.

Nothing that was built before is used; what was fetched before is, if it still has the digests of the lock. Knows no doit
and no terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flatpack_build.box.payload import MANIFEST_NAME, PayloadFile, PayloadManifest
from flatpack_build.box.provenance import (
    PROVENANCE_NAME,
    dependencies_of,
    parameters_of,
    read_statement,
    steps_of,
    subjects_of,
    text_of,
    tool_versions,
)
from flatpack_build.box.recorded import RecordedBox, read_beside
from flatpack_build.builder import Builder, Outcome
from flatpack_build.companions import PAYLOAD_NAME, PROVENANCE_SUFFIX
from flatpack_build.digest import Digest, Json
from flatpack_build.errors import BoxError, FlatpackError, UsageError
from flatpack_build.events import Listener
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.fingerprint import action_key, walk
from flatpack_build.graph import Graph
from flatpack_build.params import FetchParams
from flatpack_build.planner import Planner
from flatpack_build.project import Project
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import load_tree
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from flatpack_build.store.use import CacheUse
from flatpack_build.tree import Tree
from flatpack_build.versions import tool_version


class Watcher(Protocol):
    """Is told what runs, one action at a time."""

    def start(self, name: str) -> Listener: ...

    def end(self, name: str, outcome: Outcome | None) -> None:
        """``None``: it failed."""


@dataclass(frozen=True)
class FileChange:
    """A file that is not the same in both; ``None`` where there is none."""

    path: str
    box: PayloadFile | None
    rebuilt: PayloadFile | None


@dataclass(frozen=True)
class Change:
    """Something that is not as it was recorded; empty where there is none."""

    what: str
    recorded: str
    now: str


@dataclass(frozen=True)
class Rebuilt:
    """A payload that was made once more."""

    payload: Digest
    manifest: PayloadManifest
    statement: Mapping[str, Json]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """``same``: the payload came out byte for byte. The rest says what differs, and what may be the reason."""

    same: bool
    files: tuple[FileChange, ...]
    asked: tuple[Change, ...]
    """The manifest, and the parameters of steps."""
    sources: tuple[Change, ...]
    tools: tuple[Change, ...]
    tools_known: bool
    """Whether the versions of all tools were recorded, and not only that of this program."""


class Reproducer:
    """Rebuilds boxes of ``project``. ``fetch_again`` leaves out what was fetched before."""

    def __init__(self, project: Project, *, fetch_again: bool = False) -> None:
        self._project = project
        self._fetch_again = fetch_again

    def graph(self, recorded: RecordedBox) -> tuple[Graph, str]:
        """The actions that make the box in this project now, and the name of the last. Raises ``FlatpackError``."""
        manifest = recorded.manifest
        graph = Planner(self._project, keep=False).graph(manifest.flatpack)
        plan = next((box for box in graph.boxes if box.target == manifest.target), None)
        if plan is None:
            targets = ", ".join(box.target for box in graph.boxes)
            raise UsageError(
                f"{manifest.flatpack} is not built for {manifest.target} in this project, but for {targets}",
                hint="go to the state of the project that the box was built from",
            )
        closure = graph.closure([plan.pack])
        actions = {name: action for name, action in graph.actions.items() if name in closure}
        return Graph(graph.flatpack, actions, ()), plan.pack

    def rebuild(self, graph: Graph, pack: str, watcher: Watcher) -> Rebuilt:
        """Run every action, in a cache that is gone afterwards. Raises ``FlatpackError``."""
        use = CacheUse(self._project.cache)
        outer = Scratch(self._project.cache)  # so that what a killed run leaves is cleared away
        use.hold(lambda: None)
        inner: Scratch | None = None
        try:
            root = outer.folder / "cache"
            inner = Scratch(root)
            runner = Runner(LocalStore(root), LocalActionCache(root), LocalExecutor(os.environ), inner)
            digests = DigestCache(root / "digests.json")
            builder = Builder(
                runner,
                [graph],
                digests=lambda _flatpack: digests,
                versions=tool_version,
                record=Record(root / "record.jsonl"),
            )
            if not self._fetch_again:
                self._hand_over_sources(graph, runner)
            for name in graph.actions:
                if not builder.check(name):
                    _run(builder, name, watcher)
            tree = load_tree(runner.store, builder.outcomes[pack].result.tree)
            versions = {tool: tool_version(tool) for action in graph.actions.values() for tool in action.params.tools}
            statement = read_statement(_read(runner, tree, PROVENANCE_NAME))
            return Rebuilt(
                _digest(tree, PAYLOAD_NAME),
                PayloadManifest.decode(_read(runner, tree, MANIFEST_NAME)),
                statement,
                {"python": sys.version.split()[0], **tool_versions(statement), **versions},
            )
        finally:
            if inner is not None:
                inner.close()
            outer.close()
            use.release()

    def _hand_over_sources(self, graph: Graph, runner: Runner) -> None:
        """Take over what the user's cache has of the sources, hashed once more: what is not right is fetched again."""
        store, cache = LocalStore(self._project.cache, verify=True), LocalActionCache(self._project.cache)
        for action in graph.actions.values():
            if not isinstance(action.params, FetchParams) or action.inputs:
                continue
            tools = {tool: tool_version(tool) for tool in action.params.tools}
            found = cache.get(action_key(list(walk(action.params, {}, tools))))
            if found is None:
                continue
            try:
                tree = load_tree(store, found.tree)
                if not _is_locked(tree, action.params):
                    continue
                for entry in tree.entries:
                    if entry.kind != "dir":
                        runner.store.add_file(store.path(entry.digest))
            except FlatpackError:
                continue
            runner.store.add_bytes(tree.encode())
            runner.cache.put(found)


def compare(recorded: RecordedBox, rebuilt: Rebuilt, box: Path) -> Comparison:
    """What differs. Versions of tools are in the provenance that stands beside ``box``, if it is that of the same box."""
    beside = _beside(box, recorded)
    then = tool_versions(beside) if beside else tool_versions(recorded.statement)
    now = {name: version for name, version in rebuilt.versions.items() if name in then or beside}
    before = {file.path: file for file in recorded.manifest.files}
    after = {file.path: file for file in rebuilt.manifest.files}
    files = tuple(
        FileChange(path, before.get(path), after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    )
    asked_then = {**_flat(parameters_of(recorded.statement)), **steps_of(recorded.statement)}
    asked_now = {**_flat(parameters_of(rebuilt.statement)), **steps_of(rebuilt.statement)}
    return Comparison(
        same=recorded.payload == rebuilt.payload,
        files=files,
        asked=_changes(asked_then, asked_now),
        sources=_changes(dependencies_of(recorded.statement), dependencies_of(rebuilt.statement)),
        tools=_changes(then, now),
        tools_known=beside is not None,
    )


def _beside(box: Path, recorded: RecordedBox) -> Mapping[str, Json] | None:
    try:
        statement = read_beside(box.with_name(box.name + PROVENANCE_SUFFIX))
    except BoxError:
        return None
    return statement if recorded.payload in subjects_of(statement).values() else None


def _run(builder: Builder, name: str, watcher: Watcher) -> None:
    listener = watcher.start(name)
    outcome: Outcome | None = None
    try:
        outcome = builder.run(name, listener)
    finally:
        watcher.end(name, outcome)


def _is_locked(tree: Tree, params: FetchParams) -> bool:
    """Whether a fetched tree is what the lock says."""
    if not params.files:
        return tree.digest == params.identity.get("tree")
    return {entry.path: entry.digest for entry in tree.entries} == dict(params.files)


def _digest(tree: Tree, name: str) -> Digest:
    entry = tree.file(name)
    assert entry is not None, "pack always makes it"
    return entry.digest


def _read(runner: Runner, tree: Tree, name: str) -> bytes:
    return runner.store.path(_digest(tree, name)).read_bytes()


def _flat(value: Mapping[str, Json], before: str = "") -> dict[str, str]:
    """Nested tables as ``table.key`` -> text."""
    found: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{before}{key}.")
        else:
            found[before + key] = text_of(item)
    return found


def _changes(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(name, then.get(name, ""), now.get(name, ""))
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    )
