"""What is remembered of the last build of each task."""

from __future__ import annotations

from pathlib import Path

from flatpack_build.action import Action, Output
from flatpack_build.digest import ActionKey
from flatpack_build.graph import Graph, in_order
from flatpack_build.last import Last, read_last, write_last
from flatpack_build.params import RunParams


def chain(*names: str) -> Graph:
    actions = []
    for before, name in zip((None, *names), names, strict=False):
        inputs = {} if before is None else {"in": Output(before)}
        actions.append(Action(name, RunParams(name, "", (), {}), inputs))
    return Graph("x", in_order("x", actions), ())


def keys(**values: str) -> dict[str, ActionKey]:
    return {name: ActionKey(value) for name, value in values.items()}


def test_a_task_that_was_not_built_again_keeps_what_it_was_made_from() -> None:
    graph = chain("a", "b", "c")
    last = Last().after(graph, keys(a="a1", b="b1", c="c1"))
    assert last.earlier == {}
    last = last.after(graph, keys(a="a2", b="b2"))
    last = last.after(graph, keys(a="a3"))
    assert [last.then(task, "a") for task in "abc"] == ["a3", "a2", "a1"]
    assert last.then("c", "b") == "b1"
    assert last.after(graph, keys(a="a3", b="b3", c="c3")).earlier == {}


def test_going_back_leaves_nothing_behind_and_tasks_that_are_gone_are_dropped() -> None:
    graph = chain("a", "b")
    last = Last().after(graph, keys(a="a1", b="b1")).after(graph, keys(a="a2")).after(graph, keys(a="a1"))
    assert last == Last(keys(a="a1", b="b1"))
    assert set(last.after(chain("b"), {}).keys) == {"b"}


def test_it_survives_the_disk_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    graph = chain("a", "b")
    last = Last().after(graph, keys(a="a1", b="b1")).after(graph, keys(a="a2"))
    path = tmp_path / "last" / "x.json"
    write_last(path, last)
    assert read_last(path) == last
    for damage in (path.read_bytes()[:-5], b"[]", b'{"format": 1, "keys": [], "earlier": 3}', b'{"format": 99}'):
        path.write_bytes(damage)
        assert read_last(path) == Last()
    assert read_last(tmp_path / "absent") == Last()
