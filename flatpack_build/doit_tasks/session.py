"""What one run of doit shares: the project, its builder, and where progress is drawn."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from flatpack_build.box.signer import KeySigner
from flatpack_build.builder import Builder
from flatpack_build.doit_tasks.options import BuildOptions
from flatpack_build.doit_tasks.state import State
from flatpack_build.errors import FlatpackError, KeyFileError
from flatpack_build.events import Listener
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.graph import Graph
from flatpack_build.project import Project
from flatpack_build.record import ActionLine, Record
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

    def __init__(self, project: Project, options: BuildOptions) -> None:
        self.project = project
        self.options = options
        self.scratch = Scratch(project.cache)
        self.store = LocalStore(project.cache, verify=bool(os.environ.get("FLATPACK_VERIFY_CACHE")))
        self.cache = LocalActionCache(project.cache)
        self.view: View | None = None
        self.builder: Builder | None = None
        self.state: State | None = None
        self.record: Record | None = None
        self.executes = False
        """Whether this run builds: a listing has nothing to report."""
        self.selected: Callable[[], Collection[str]] = tuple
        """The names of all tasks that this run was to bring up to date."""
        self.others_failed: list[ActionLine] = []
        """Failures of tasks that are the user's own."""
        self._started = datetime.now(UTC)
        self._start = time.monotonic()
        self._reported = False

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
        self.record = Record(self.project.build / "record.jsonl")
        self.builder = Builder(
            self.runner,
            graphs,
            digests=DigestCache(self.project.build / "digests" / f"{name}.json"),
            versions=tool_version,
            signer=lambda: self.signer,
            boxes=self.project.dist,
            record=self.record,
            forced=forced,
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

    def report(self, problem: str = "") -> None:
        """End the record and write the reports that were asked for; ``problem`` is why the build could not begin.

        Does so once. Raises ``StoreError`` when a report cannot be written.
        """
        if self._reported or not self.executes:
            return
        self._reported = True
        if self.builder is not None:
            recorded = self.record is not None and self.record.path is not None
            selected = self.selected() if recorded or self.options.reports else ()
            self.builder.close(selected, always=self.options.reports)
        if self.options.reports:
            self._write_reports(problem)

    def _write_reports(self, problem: str) -> None:
        from flatpack_build.report.files import write_reports  # for CI: most builds report to nobody
        from flatpack_build.report.model import BuildReport

        seconds = time.monotonic() - self._start
        lines = [*(self.builder.lines(self.selected()) if self.builder else ()), *self.others_failed]
        boxes = self.builder.finished_boxes() if self.builder else []
        report = BuildReport(
            self._started,
            seconds,
            [self._with_short_paths(line) for line in lines],
            boxes,
            problem,
            self.signed_by() if boxes else "",
        )
        options = self.options
        write_reports(
            report, summary=options.summary, junit=options.junit, record=options.record, environment=os.environ
        )

    def _with_short_paths(self, line: ActionLine) -> ActionLine:
        root = os.fspath(self.project.root).rstrip("/") + "/"
        return replace(line, error=line.error.replace(root, "")) if root in line.error else line

    def close(self) -> None:
        """Whatever happened before: nothing is left behind, and what was to be reported is."""
        try:
            self.report()
        except FlatpackError as error:
            sys.stderr.write(f"ERROR: {error}\n")
        if self.builder is not None:
            self.builder.close()
        self.scratch.close()
