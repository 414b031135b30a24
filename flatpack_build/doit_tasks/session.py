"""What one run of doit shares: the project, its builder, and where progress is drawn."""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from flatpack_build.box.signer import KeySigner
from flatpack_build.builder import Builder
from flatpack_build.doit_tasks.state import State
from flatpack_build.errors import KeyFileError
from flatpack_build.events import Listener
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.graph import Graph
from flatpack_build.pools import PeakMemory, Pool
from flatpack_build.project import Project
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from flatpack_build.versions import tool_version
from flatpack_build.views import View


class _ActionView:
    """A listener that draws for one action."""

    def __init__(self, view: View | None, name: str) -> None:
        self._view = view
        self._name = name

    def progress(self, done: int, total: int | None, unit: str) -> None:
        if self._view is not None:
            self._view.progress(self._name, done, total, unit)

    def note(self, text: str) -> None:
        pass  # said once, with the result


class Session:
    """Made by the loader, closed by the reporter."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.scratch = Scratch(project.cache)
        self.store = LocalStore(project.cache, verify=bool(os.environ.get("FLATPACK_VERIFY_CACHE")))
        self.cache = LocalActionCache(project.cache)
        self.view: View | None = None
        self.builder: Builder | None = None
        self.state: State | None = None

    @cached_property
    def runner(self) -> Runner:
        return Runner(self.store, self.cache, LocalExecutor(os.environ), self.scratch)

    @cached_property
    def signer(self) -> KeySigner:
        """Raises ``KeyFileError`` when there is no key to sign with."""
        return KeySigner(self.project.signing_key, self.project.public_key)

    def build(self, graphs: Collection[Graph], forced: Collection[str]) -> Builder:
        """The builder of this run."""
        name = "-".join(graph.flatpack for graph in graphs) if len(graphs) == 1 else "warehouse"
        self.builder = Builder(
            self.runner,
            graphs,
            digests=DigestCache(self.project.build / "digests" / f"{name}.json"),
            versions=tool_version,
            signer=lambda: self.signer,
            boxes=self.project.dist,
            record=Record(self.project.build / "record.jsonl"),
            forced=forced,
            pool=Pool(self.project.capacity),
            peaks=PeakMemory(self.project.build / "peak-memory.json"),
        )
        return self.builder

    def listener(self, name: str) -> Listener:
        return _ActionView(self.view, name)

    def succeeded(self, name: str) -> None:
        if self.state is not None:
            self.state.remember(name)

    def signed_by(self) -> str:
        kind = "development key" if self.signer.development else "key"
        try:
            return f"{kind} {self.signer.key_id[:16]}"
        except KeyFileError:
            return "nobody"

    def shown(self, path: Path) -> str:
        """A path as it is shown: relative to the project where it lies in it."""
        return os.fspath(path.relative_to(self.project.root)) if path.is_relative_to(self.project.root) else str(path)

    def close(self) -> None:
        if self.builder is not None:
            self.builder.close()
        self.scratch.close()
