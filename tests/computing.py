"""Builds in this process for tests of the builder and of all that looks at its work: real files, keys, store and cache.

Only the executor is made for tests: it computes outputs from parameters and inputs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from flatpack_build.action import Action, Output, SourceFile, SourceTree
from flatpack_build.builder import Builder
from flatpack_build.errors import StepError
from flatpack_build.events import Listener
from flatpack_build.executor.protocol import Execution, Job
from flatpack_build.graph import Graph, in_order
from flatpack_build.params import RunParams
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import load_tree
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch
from tests.heard import Heard


class Computing:
    """An executor whose every output is a digest of parameters and inputs. ``upper`` outputs ignore case: early cutoff."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, job: Job, listener: Listener) -> Execution:
        self.ran.append(job.name)
        assert isinstance(job.params, RunParams)
        if job.params.command == "fail":
            raise StepError("it failed on purpose")
        text = job.params.command
        for name in sorted(job.inputs):
            path = job.inputs[name]
            files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
            text += "".join(item.read_text() for item in files)
        if "upper" in job.params.environment:
            text = text.upper()
        (job.out / "result").write_text(text)
        return Execution(0.01, 1, ())


@dataclass
class Ground:
    """A folder of the user's, a cache, and a way to build in it again and again."""

    root: Path

    def __post_init__(self) -> None:
        self.user = self.root / "user"
        self.user.mkdir()
        self.executor = Computing()

    def build(
        self, actions: list[Action], *, forced: tuple[str, ...] = (), wanted: str = "", verify: bool = False
    ) -> Mapping[str, str]:
        """Build everything; the text of each output. ``self.executor.ran`` holds what ran."""
        cache = self.root / "cache"
        scratch = Scratch(cache)
        self.executor.ran = []
        graph = Graph("x", in_order("x", actions), ())
        digests = DigestCache(self.root / "digests.json")
        store = LocalStore(cache, verify=verify)
        builder = Builder(
            Runner(store, LocalActionCache(cache), self.executor, scratch),
            [graph],
            digests=lambda _flatpack: digests,
            versions=lambda _tool: "1",
            record=Record(self.root / "record.jsonl"),
            forced=forced,
        )
        try:
            for name in graph.actions:
                if not builder.check(name):
                    builder.run(name, Heard())
        finally:
            digests.save()
            scratch.close()
        texts = {}
        for name, outcome in builder.outcomes.items():
            entry = load_tree(store, outcome.result.tree).file("result")
            assert entry is not None
            if store.contains(entry.digest):
                texts[name] = store.path(entry.digest).read_text()
        return texts


def step(name: str, command: str = "", *, upper: bool = False, **inputs: Output | SourceFile | SourceTree) -> Action:
    return Action(name, RunParams(name, command or name, ("result",), {"upper": "1"} if upper else {}), inputs)


def write(ground: Ground, name: str, text: str) -> None:
    (ground.user / name).write_text(text)
    os.utime(ground.user / name, ns=(time.time_ns() - 10**9, time.time_ns() - 10**9))


LINKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)
"""Which of six actions takes what another one made, for ``linked``."""


def linked(folder: Path, links: list[tuple[int, int]]) -> list[Action]:
    """Actions ``n0`` to ``n5`` over the files ``0`` to ``2`` in ``folder``; a link is (a later one, an earlier one)."""
    actions = []
    for number in range(6):
        needs = {f"from{low}": Output(f"n{low}", "result") for high, low in links if high == number and low < number}
        source = SourceFile(str(folder / str(number % 3)))
        actions.append(step(f"n{number}", upper=number % 2 == 0, source=source, **needs))  # type: ignore[arg-type]  # the other keywords are fixed above
    return actions
