"""The builder on small graphs: what runs, what does not, and that the two never differ from a clean build."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.action import Action, Output, SourceFile, SourceTree
from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError, StepError
from flatpack_build.graph import BoxPlan, Graph
from flatpack_build.params import CompressParams, RunParams
from tests.computing import LINKS, Ground, linked, step, write


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def chain(ground: Ground) -> list[Action]:
    """source -> fold (ignores case) -> last; and another that depends on nothing of it."""
    source = SourceFile(str(ground.user / "source"))
    return [
        step("last", first=Output("fold", "result")),
        step("fold", upper=True, source=source),
        step("other", tree=SourceTree(str(ground.user), ("other",))),
    ]


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
    links=LINKS,
    edits=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("aAbB")), min_size=1, max_size=6),
)
def test_incremental_builds_agree_with_clean_ones(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[int, int]], edits: list[tuple[int, str]]
) -> None:
    ground = Ground(tmp_path_factory.mktemp("ground"))
    for number in range(3):
        write(ground, str(number), "a")
    actions = linked(ground.user, links)
    for number, text in edits:
        write(ground, str(number), text)
        incremental = ground.build(actions)
        clean = Ground(tmp_path_factory.mktemp("clean"))
        clean.user = ground.user
        assert clean.build(actions) == incremental


def test_boxes_are_part_of_the_graph() -> None:
    graph = Graph("x", {"a": step("a")}, (BoxPlan("pi5", "a", "x.fpk", "Q4_0"),))
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
