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

from flatpack_build import __version__
from flatpack_build.admissions import Admissions
from flatpack_build.box.model_signing import ModelSigner
from flatpack_build.box.signer import KeySigner
from flatpack_build.box_maker import BoxMaker
from flatpack_build.builder import Builder
from flatpack_build.companions import companion_paths
from flatpack_build.digest import Digest, Json, canonical_json
from flatpack_build.doit_tasks.options import BuildOptions
from flatpack_build.doit_tasks.state import State
from flatpack_build.errors import FlatpackError, KeyFileError, StoreError
from flatpack_build.events import NOBODY, Listener
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.graph import Graph
from flatpack_build.planner import Planner
from flatpack_build.pools import Pool
from flatpack_build.project import Project
from flatpack_build.record import ActionLine, Record
from flatpack_build.runner import Runner
from flatpack_build.source_files import seen_files
from flatpack_build.stamps import Stamp, StampedBox, Stamps, signature
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from flatpack_build.store.projects import register
from flatpack_build.store.use import CacheUse, is_due
from flatpack_build.versions import tool_version
from flatpack_build.views import Row, View, size_text


def _say_waiting() -> None:
    sys.stderr.write("waiting: the cache is being cleaned up\n")


def stamps_of(project: Project) -> Stamps:
    """Stamps that hold as long as the program, its packages, the settings and the key stay as they are."""
    packages = [folder for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))]
    here = [
        os.fspath(project.root / "pyproject.toml"),
        os.fspath(project.signing_key),
        os.fspath(project.public_key),
        *([os.fspath(project.model_signing_key)] if project.model_signing_key else []),
    ]
    circumstances: Json = [
        __version__,
        sys.version,
        list(os.uname()),
        [os.fspath(path) for path in (project.root, project.cache, project.dist)],
        [[path, signature(path)] for path in (*here, *packages)],
    ]
    return Stamps(os.fspath(project.stamps), Digest.of_bytes(canonical_json(circumstances)))


class Session:
    """Made by the loader, closed by the reporter."""

    def __init__(self, project: Project, options: BuildOptions) -> None:
        self.project = project
        self.options = options
        self.scratch = Scratch(project.cache)
        self.store = LocalStore(project.cache, verify=bool(os.environ.get("FLATPACK_VERIFY_CACHE")))
        self.cache = LocalActionCache(project.cache)
        self.use = CacheUse(project.cache)
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
        self.planner: Planner | None = None
        self.fresh: dict[str, Stamp] = {}
        """Flatpacks that need no look: their stamps."""
        self._digests: dict[str, DigestCache] = {}
        self._graphs: Collection[Graph] = ()
        self._idle = True

    @cached_property
    def runner(self) -> Runner:
        return Runner(self.store, self.cache, LocalExecutor(os.environ), self.scratch)

    @cached_property
    def signer(self) -> KeySigner:
        """Raises ``KeyFileError`` when there is no key to sign with."""
        return KeySigner(self.project.signing_key, self.project.public_key)

    @cached_property
    def model_signer(self) -> ModelSigner | None:
        """``None`` where the settings ask for no model signatures."""
        return ModelSigner(self.project.model_signing_key) if self.project.model_signing_key else None

    @cached_property
    def stamps(self) -> Stamps:
        """Read once: what they hold for is looked at when they are first asked for."""
        return stamps_of(self.project)

    def digests(self, flatpack: str) -> DigestCache:
        """What is known of the digests of a flatpack's files and boxes."""
        if flatpack not in self._digests:
            self._digests[flatpack] = DigestCache(self.project.build / "digests" / f"{flatpack}.json")
        return self._digests[flatpack]

    def build(self, graphs: Collection[Graph], forced: Collection[str]) -> Builder:
        """The builder of this run."""
        self._graphs = graphs
        self.record = Record(self.project.build / "record.jsonl")
        admissions = Admissions(Pool(self.project.capacity), self.project.build / "last", self.cache)
        self.builder = self._builder(graphs, self.record, forced, admissions)
        return self.builder

    def _builder(
        self,
        graphs: Collection[Graph],
        record: Record,
        forced: Collection[str] = (),
        admissions: Admissions | None = None,
    ) -> Builder:
        return Builder(
            self.runner,
            graphs,
            digests=self.digests,
            versions=tool_version,
            record=record,
            forced=forced,
            box_maker=BoxMaker(self.runner, self.project.dist, signer=self.signer, model_signer=self.model_signer),
            admissions=admissions,
        )

    def settle(self, graph: Graph, targets: Collection[str]) -> bool:
        """Whether there is nothing to do for the boxes of ``targets`` (none: of all); then it is stamped and counts as
        fresh.

        Judging a flatpack by itself leaves nothing of it in memory and makes no tasks, however large the warehouse.
        """
        packs = [box.pack for box in graph.boxes if not targets or box.target in targets]
        closure = graph.closure(packs)
        builder = self._builder([graph], Record(self.project.build / "record.jsonl"))
        if len(packs) < len(targets) or not all(builder.check(name) for name in graph.actions if name in closure):
            return False
        builder.keep_last(self.project.build / "last")
        stamp = self._stamp(builder, graph)
        if stamp is None:
            return False
        self.fresh[graph.flatpack] = stamp
        self._digests.pop(graph.flatpack).save()
        return True

    def listener(self, name: str) -> Listener:
        return Row(self.view, name) if self.view is not None else NOBODY

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

    def hold_cache(self) -> None:
        """Before anything is looked up to be used: from here to ``close`` nothing is removed from the cache."""
        register(self.project)
        self.use.hold(_say_waiting)

    def report(self, problem: str = "") -> None:
        """End the record and write the reports that were asked for; ``problem`` is why the build could not begin.

        Does so once. Raises ``StoreError`` when a report cannot be written.
        """
        if self._reported or not self.executes:
            return
        self._reported = True
        lines: list[ActionLine] = []
        if self.builder is not None and self.record is not None and (self.record.path or self.options.reports):
            from flatpack_build.report.lines import remaining_lines  # a build of nothing has nothing to report

            ended = dict(self.record.lines)
            rest = remaining_lines(ended, self.builder.outcomes, self._graphs, self.selected())
            self.record.close(rest, always=self.options.reports)
            lines = [*ended.values(), *rest]
        if self.options.reports:
            self._write_reports([*lines, *self.others_failed], problem)

    def knows(self, name: str) -> bool:
        """Whether ``name`` is an action of a flatpack; else it is a task of the user's own."""
        return any(name in graph.actions for graph in self._graphs)

    def _write_reports(self, lines: Collection[ActionLine], problem: str) -> None:
        from flatpack_build.report.files import write_reports  # for CI: most builds report to nobody
        from flatpack_build.report.model import BuildReport

        seconds = time.monotonic() - self._start
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
        for digests in self._digests.values():
            digests.save()
        if self.builder is not None:
            self.builder.keep_last(self.project.build / "last")
            for graph in self._graphs:
                self._stamp(self.builder, graph)
            self._idle = all(outcome.state == "up to date" for outcome in self.builder.outcomes.values())
            self.builder = None
        self.scratch.close()
        self.use.release()

    def tidy_cache(self) -> str:
        """After ``close``, if this build did something: hold the cache to its limits, if any, once a day. Says what went.

        Does nothing while another build uses the cache: that one, or the next, will see to it.
        """
        limits = self.project.cache_limits
        now = time.time()
        if self._idle or not limits or not is_due(self.project.cache, now=now):
            return ""
        from flatpack_build.store.gc import collect_if_free  # reads the whole cache: not for every build

        try:
            collection = collect_if_free(self.project.cache, limits, now=now)
        except StoreError as error:
            return f"the cache could not be cleaned up: {error}"
        if collection is None or not collection.actions:
            return ""
        freed = size_text(collection.size_before - collection.size_after)
        return f"cache: removed {freed} of what has not been used for longest (limits: see flatpack cache stats)"

    def _stamp(self, builder: Builder, graph: Graph) -> Stamp | None:
        """Keep what was seen of a flatpack, if boxes of it stand in place now, and nothing changed a moment ago."""
        planned = self.planner.seen.pop(graph.flatpack, None) if self.planner else None
        boxes = builder.finished_boxes(graph.flatpack)
        digests = self.digests(graph.flatpack)
        files = seen_files(graph.actions.values(), digests) if boxes and planned else None
        if not boxes or not planned or files is None:
            return None
        stamped = []
        for box in boxes:
            status = digests.signature(os.fspath(box.path))
            if status is None:
                return None
            stamped.append(
                StampedBox(
                    box.plan.target,
                    box.plan.pack,
                    box.plan.file_name,
                    box.plan.quant,
                    box.size,
                    os.fspath(box.path),
                    status,
                    {os.fspath(path): signature(os.fspath(path)) for path in companion_paths(box.path)},
                )
            )
        seen = {**planned, **files}
        top = os.fspath(self.project.warehouse) + os.sep
        own = {path: status for path, status in seen.items() if path.startswith(top)}
        shared = {path: status for path, status in seen.items() if path not in own}
        stamp = Stamp(tuple(stamped), len(graph.closure(box.plan.pack for box in boxes)))
        whole = len(boxes) == len(graph.boxes)
        self.stamps.put(graph.flatpack, own, shared, stamp, whole=whole, keys=builder.keys(graph.flatpack))
        return stamp
