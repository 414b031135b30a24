"""The builder on small graphs: what runs, what does not, and that the two never differ from a clean build.

The executor here computes outputs from inputs in this process; store, cache, keys and files are the real ones.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.action import Action, Output, SourceFile, SourceTree
from flatpack_build.builder import Builder
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError, StepError
from flatpack_build.events import Listener
from flatpack_build.executor.protocol import Execution, Job
from flatpack_build.graph import BoxPlan, Graph, in_order
from flatpack_build.params import CompressParams, RunParams
from flatpack_build.record import Record
from flatpack_build.runner import Runner
from flatpack_build.store.digests import DigestCache
from flatpack_build.store.folders import load_tree
from flatpack_build.store.local import LocalActionCache, LocalStore, Scratch


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


class Listening:
    def progress(self, done: int, total: int | None, unit: str) -> None: ...

    def note(self, text: str) -> None: ...


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
                    builder.run(name, Listening())
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


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def step(name: str, command: str = "", *, upper: bool = False, **inputs: Output | SourceFile | SourceTree) -> Action:
    return Action(name, RunParams(name, command or name, ("result",), {"upper": "1"} if upper else {}), inputs)


def chain(ground: Ground) -> list[Action]:
    """source -> fold (ignores case) -> last; and another that depends on nothing of it."""
    source = SourceFile(str(ground.user / "source"))
    return [
        step("last", first=Output("fold", "result")),
        step("fold", upper=True, source=source),
        step("other", tree=SourceTree(str(ground.user), ("other",))),
    ]


def write(ground: Ground, name: str, text: str) -> None:
    (ground.user / name).write_text(text)
    os.utime(ground.user / name, ns=(time.time_ns() - 10**9, time.time_ns() - 10**9))


def test_nothing_runs_twice_and_a_touch_changes_nothing(ground: Ground) -> None:
    write(ground, "source", "a")
    write(ground, "other", "b")
    ground.build(chain(ground))
    assert sorted(ground.executor.ran) == ["fold", "last", "other"]
    ground.build(chain(ground))
    assert ground.executor.ran == []
    os.utime(ground.user / "source")
    os.utime(ground.user / "other")
    ground.build(chain(ground))
    assert ground.executor.ran == []


def test_an_edit_runs_what_depends_on_it_and_stops_where_the_output_is_the_same(ground: Ground) -> None:
    write(ground, "source", "a")
    write(ground, "other", "b")
    ground.build(chain(ground))
    write(ground, "source", "A")  # differs in case only
    ground.build(chain(ground))
    assert ground.executor.ran == ["fold"]
    write(ground, "source", "c")
    texts = ground.build(chain(ground))
    assert ground.executor.ran == ["fold", "last"]
    assert texts["last"] == "lastFOLDC"


def test_going_back_to_an_earlier_state_runs_nothing(ground: Ground) -> None:
    write(ground, "other", "b")
    for text, ran in (("a", 3), ("z", 2), ("a", 0)):
        write(ground, "source", text)
        ground.build(chain(ground))
        assert len(ground.executor.ran) == ran


def test_names_and_places_are_not_in_the_key(ground: Ground, tmp_path: Path) -> None:
    write(ground, "source", "a")
    ground.build([step("one", "same", source=SourceFile(str(ground.user / "source")))])
    (tmp_path / "elsewhere").write_text("a")
    actions = [
        Action("two", RunParams("one", "same", ("result",), {}), {"source": SourceFile(str(tmp_path / "elsewhere"))})
    ]
    ground.build(actions)
    assert ground.executor.ran == []


def test_a_new_tool_version_is_in_the_key() -> None:
    from flatpack_build.fingerprint import action_key, walk

    params = CompressParams("Q4_0")
    old, new = ({"llama-cpp-python": version} for version in ("1", "2"))
    assert action_key(list(walk(params, {}, old))) != action_key(list(walk(params, {}, new)))


def test_forced_actions_run_again(ground: Ground) -> None:
    write(ground, "source", "a")
    write(ground, "other", "b")
    ground.build(chain(ground))
    ground.build(chain(ground), forced=("fold",))
    assert ground.executor.ran == ["fold"]


def test_an_output_that_the_cache_lost_is_made_again_when_it_is_needed(ground: Ground) -> None:
    write(ground, "source", "a")
    write(ground, "other", "b")
    texts = ground.build(chain(ground))
    blob = ground.root / "cache/blobs" / Digest.of_bytes(texts["fold"].encode())[:2]
    for item in blob.iterdir():
        if item.name == Digest.of_bytes(texts["fold"].encode()):
            item.unlink()
    ground.build(chain(ground)[1:])
    assert ground.executor.ran == []  # nobody reads it
    changed = [step("last", "new", first=Output("fold", "result")), *chain(ground)[1:]]
    ground.build(changed)
    assert ground.executor.ran == ["fold", "last"]


def test_a_failed_action_leaves_what_was_built_before_it(ground: Ground) -> None:
    write(ground, "source", "a")
    good = step("good", source=SourceFile(str(ground.user / "source")))
    with pytest.raises(StepError, match="on purpose"):
        ground.build([good, step("bad", "fail", first=Output("good"))])
    ground.build([good])
    assert ground.executor.ran == []
    assert list((ground.root / "cache/tmp").iterdir()) == []


def test_a_missing_input_names_the_file(ground: Ground) -> None:
    with pytest.raises(SourceError, match="user/source"):
        ground.build(chain(ground))


@settings(max_examples=60, deadline=None)
@given(
    links=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12),
    edits=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("aAbB")), min_size=1, max_size=6),
)
def test_incremental_builds_agree_with_clean_ones(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[int, int]], edits: list[tuple[int, str]]
) -> None:
    ground = Ground(tmp_path_factory.mktemp("ground"))
    for number in range(3):
        write(ground, str(number), "a")
    actions = []
    for number in range(6):
        needs = {f"from{low}": Output(f"n{low}", "result") for high, low in links if high == number and low < number}
        source = SourceFile(str(ground.user / str(number % 3)))
        actions.append(step(f"n{number}", upper=number % 2 == 0, source=source, **needs))  # type: ignore[arg-type]  # the other keywords are fixed above
    for number, text in edits:
        write(ground, str(number), text)
        incremental = ground.build(actions)
        clean = Ground(tmp_path_factory.mktemp("clean"))
        clean.user = ground.user
        assert clean.build(actions) == incremental


def test_boxes_are_part_of_the_graph() -> None:
    graph = Graph("x", {"a": step("a")}, (BoxPlan("pi5", "a", "x.fpk", "Q4_0"),))
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
