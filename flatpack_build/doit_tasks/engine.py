"""What a run of doit needs where there is something to look at: the cache, the planner, the builder.

A build of nothing gets by without: this is loaded, and made, only when some flatpack is not fresh by its stamp.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection

from flatpack_build.admissions import Admissions
from flatpack_build.box_maker import BoxMaker, Signer
from flatpack_build.builder import Builder
from flatpack_build.companions import ModelSigner, companion_paths
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.graph import Graph
from flatpack_build.host import HOST
from flatpack_build.planner import Planner
from flatpack_build.pools import Pool
from flatpack_build.project import Project
from flatpack_build.record import ActionLine, Record
from flatpack_build.report.lines import remaining_lines
from flatpack_build.runner import Runner
from flatpack_build.source_files import seen_files
from flatpack_build.stamps import Stamp, StampedBox, Stamps
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from flatpack_build.store.projects import register
from flatpack_build.store.use import CacheUse
from flatpack_build.versions import tool_version


def _say_waiting() -> None:
    sys.stderr.write("waiting: the cache is being cleaned up\n")


class Engine:
    """Made when it is first needed, and closed once. ``stamps`` are read and written."""

    def __init__(self, project: Project, stamps: Stamps, signer: Signer, model_signer: ModelSigner | None) -> None:
        self._project = project
        self._stamps = stamps
        self._signer = signer
        self._model_signer = model_signer
        self._scratch = Scratch(project.cache)
        self._use = CacheUse(project.cache)
        self._cache = LocalActionCache(project.cache)
        store = LocalStore(project.cache, verify=bool(os.environ.get("FLATPACK_VERIFY_CACHE")))
        self.runner = Runner(store, self._cache, LocalExecutor(os.environ), self._scratch)
        self.planner = Planner(project)
        self._latest = project.build / "record.jsonl"
        self.record = Record(self._latest)
        self.builder: Builder | None = None
        """That of all flatpacks with something to do, or to be shown."""
        self.idle = True
        """Whether nothing was done; known when it is closed."""
        self._digests: dict[str, DigestCache] = {}
        self._graphs: Collection[Graph] = ()

    def hold_cache(self) -> None:
        """Before anything is looked up to be used: from here to ``close`` nothing is removed from the cache."""
        register(self._project)
        self._use.hold(_say_waiting)

    def settle(self, graph: Graph, targets: Collection[str]) -> Stamp | None:
        """Stamp the flatpack if there is nothing to do for the boxes of ``targets`` (none: of all).

        Judging a flatpack by itself leaves nothing of it in memory and makes no tasks, however large the warehouse.
        """
        packs = [box.pack for box in graph.boxes if not targets or box.target in targets]
        closure = graph.closure(packs)
        builder = self._make_builder([graph], Record(self._latest))
        if len(packs) < len(targets) or not all(builder.check(name) for name in graph.actions if name in closure):
            return None
        builder.keep_last(self._project.build / "last")
        stamp = self._stamp(builder, graph)
        if stamp is not None:
            self._digests.pop(graph.flatpack).save()
        return stamp

    def build(self, graphs: Collection[Graph], forced: Collection[str]) -> Builder:
        """The builder of this run; ``forced`` are actions that run whatever the cache says."""
        self._graphs = graphs
        admissions = Admissions(Pool(self._project.capacity), self._project.build / "last", self._cache)
        self.builder = self._make_builder(graphs, self.record, forced, admissions)
        return self.builder

    def _make_builder(
        self,
        graphs: Collection[Graph],
        record: Record,
        forced: Collection[str] = (),
        admissions: Admissions | None = None,
    ) -> Builder:
        dist = self._project.dist
        return Builder(
            self.runner,
            graphs,
            digests=self.digests,
            versions=tool_version,
            record=record,
            forced=forced,
            box_maker=BoxMaker(self.runner, dist, signer=self._signer, model_signer=self._model_signer),
            admissions=admissions,
        )

    def digests(self, flatpack: str) -> DigestCache:
        """What is known of the digests of a flatpack's files and boxes."""
        if flatpack not in self._digests:
            self._digests[flatpack] = DigestCache(self._project.build / "digests" / f"{flatpack}.json")
        return self._digests[flatpack]

    def knows(self, name: str) -> bool:
        """Whether ``name`` is an action of a flatpack that was looked at."""
        return any(name in graph.actions for graph in self._graphs)

    def end_record(self, selected: Collection[str], *, always: bool) -> list[ActionLine]:
        """End the record with what needed nothing or was not reached; all its lines. A build in which nothing ended has
        none, unless ``always``."""
        if self.builder is None or not (self.record.path or always):
            return []
        ended = dict(self.record.lines)
        rest = remaining_lines(ended, self.builder.outcomes, self._graphs, selected)
        self.record.close(rest, always=always)
        return [*ended.values(), *rest]

    def close(self) -> None:
        """Keep what was learned; leave nothing behind."""
        for digests in self._digests.values():
            digests.save()
        if self.builder is not None:
            self.builder.keep_last(self._project.build / "last")
            for graph in self._graphs:
                self._stamp(self.builder, graph)
            self.idle = all(outcome.state == "up to date" for outcome in self.builder.outcomes.values())
            self.builder = None
        self._scratch.close()
        self._use.release()

    def _stamp(self, builder: Builder, graph: Graph) -> Stamp | None:
        """Keep what was seen of a flatpack, if boxes of it stand in place now, and nothing changed a moment ago."""
        planned = self.planner.seen.pop(graph.flatpack, None)
        if any(box.target == HOST for box in graph.boxes):
            return None  # a driver or more memory would not show in it
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
                    box.target,
                    box.pack,
                    box.quant,
                    box.size,
                    os.fspath(box.path),
                    status,
                    {os.fspath(path): digests.signature(os.fspath(path)) for path in companion_paths(box.path)},
                )
            )
        seen = {**planned, **files}
        top = os.fspath(self._project.warehouse) + os.sep
        own = {path: status for path, status in seen.items() if path.startswith(top)}
        shared = {path: status for path, status in seen.items() if path not in own}
        stamp = Stamp(tuple(stamped), len(graph.closure(box.pack for box in boxes)))
        whole = len(boxes) == len(graph.boxes)
        self._stamps.put(graph.flatpack, own, shared, stamp, whole=whole, keys=builder.keys(graph.flatpack))
        return stamp
