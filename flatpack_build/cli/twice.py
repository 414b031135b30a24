"""``flatpack build --verify-reproducible``: says of each action whether its two runs gave the same."""

from __future__ import annotations

import os
import sys
import time

from flatpack_build.builder import Builder
from flatpack_build.errors import UsageError
from flatpack_build.events import Listener
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.fs import temporary_folder
from flatpack_build.graph import Graph
from flatpack_build.planner import Planner
from flatpack_build.project import Project
from flatpack_build.record import Record
from flatpack_build.reproducibility import Verified, Verifier, faketime_library
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from flatpack_build.store.use import CacheUse
from flatpack_build.versions import tool_version
from flatpack_build.views import Row, View, size_text, time_text, view_for


def build_twice(project: Project, names: tuple[str, ...]) -> int:
    """Verify the flatpacks, or single targets of them, that are named; all of them without a name."""
    planner = Planner(project)
    wanted: dict[str, set[str]] = {}
    for name in names or tuple(project.flatpacks()):
        flatpack, _, target = name.partition("@")
        wanted.setdefault(flatpack, set()).add(target)
    scratch = Scratch(project.cache)
    use = CacheUse(project.cache)
    view = view_for(sys.stdout)
    use.hold(lambda: view.line("waiting: the cache is being cleaned up"))
    try:
        for flatpack, targets in wanted.items():
            graph = planner.graph(flatpack)
            _verify(project, graph, _actions(graph, targets), scratch, view)
    finally:
        view.close()
        scratch.close()
        use.release()
    return 0


def _actions(graph: Graph, targets: set[str]) -> frozenset[str]:
    if "" in targets:
        return frozenset(graph.actions)
    known = {box.target: box.pack for box in graph.boxes}
    unknown = sorted(targets - known.keys())
    if unknown:
        raise UsageError(
            f"{graph.flatpack} is not built for {unknown[0]!r}", hint=f"its targets: {', '.join(sorted(known))}"
        )
    return graph.closure(known[target] for target in targets)


def _verify(project: Project, graph: Graph, names: frozenset[str], scratch: Scratch, view: View) -> None:
    start = time.monotonic()
    store = LocalStore(project.cache)
    clock = "another clock" if faketime_library() else "another second on the clock (with faketime: another year)"
    view.line(f"{graph.flatpack}: each action runs twice, in other folders, with {clock}, umask, locale and user")
    view.line(f"  {'':<4} {'action':<44} {'files':>6} {'size':>10} {'time':>8}  how")
    passed: list[Verified] = []
    with temporary_folder(scratch.folder, prefix="reproducible-") as work:
        digests = DigestCache(work / "digests.json")
        builder = Builder(
            Runner(store, LocalActionCache(project.cache), LocalExecutor(os.environ), scratch),
            [graph],
            digests=lambda _flatpack: digests,
            versions=tool_version,
            record=Record(work / "record.jsonl"),
        )
        (work / "runs").mkdir()
        verifier = Verifier(graph, builder=builder, store=store, work=work / "runs", environment=os.environ)
        view.start(graph.flatpack)
        listener: Listener = Row(view, graph.flatpack)
        for verified in verifier.verify(names, listener):
            passed.append(verified)
            view.line(
                f"  {'OK':<4} {verified.action:<44} {verified.files:>6} {size_text(verified.size):>10} "
                f"{time_text(verified.seconds):>8}  {verified.how}"
            )
        view.end(graph.flatpack)
    twice = sum(verified.how == "run twice" for verified in passed)
    view.line(
        f"\n{graph.flatpack} is reproducible: {twice} of {len(passed)} actions ran twice and gave the same bytes, "
        f"in {time_text(time.monotonic() - start)}"
    )
