"""doit's tasks for graphs: one for each action, and groups of them for boxes and flatpacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from doit.task import Task

from flatpack_build.action import Action
from flatpack_build.companions import companion_paths
from flatpack_build.doit_tasks.actions import Check, Remove, RunAction
from flatpack_build.doit_tasks.session import Session
from flatpack_build.doit_tasks.state import State, spread_groups
from flatpack_build.graph import Graph
from flatpack_build.project import Project

_DOCS = {
    "fetch": "fetch the bytes that flatpack.lock names",
    "verify": "check digest, signature and format of what was fetched",
    "convert": "turn the model into float weights",
    "compress": "quantise the model",
    "device": "generate the device script",
    "run": "run a build step of the flatpack's own",
    "assemble": "put files, scripts and wheels together",
    "index": "index the documents",
    "pack": "pack the payload and sign the box",
}


def graph_tasks(session: Session, graphs: Sequence[Graph], state: State) -> list[Task]:
    """The tasks of ``graphs``, judged and run by a builder that is made for them."""
    spread_groups(state, graphs)
    builder = session.engine().build(graphs, state.forgotten)
    tasks = []
    for graph in graphs:
        tasks += _groups(session.project, graph)
        tasks += [_task(session, graph, action, builder.check) for action in graph.actions.values()]
    return tasks


def bare_tasks(name: str, targets: Sequence[str]) -> list[Task]:
    """The tasks of a flatpack of which no more is known than what it is built for."""
    groups = [f"build:{name}@{target}" for target in targets]
    doc = f"build all boxes of {name}: {', '.join(targets)} (not locked yet)"
    first = Task(f"build:{name}", None, task_dep=groups, has_subtask=True, doc=doc)
    return [first, *(Task(group, None, doc=f"build the box of {name} (not locked yet)") for group in groups)]


def _groups(project: Project, graph: Graph) -> list[Task]:
    name = graph.flatpack
    kept = [os.fspath(project.build / "plans" / f"{name}.json")]
    kept.append(os.fspath(project.build / "digests" / f"{name}.json"))
    kept.append(os.fspath(project.build / "last" / f"{name}.json"))
    shown = [f"build:{name}@{box.target}" for box in graph.boxes]
    tasks = [
        Task(
            f"build:{name}",
            None,
            task_dep=[*shown, *graph.actions],
            has_subtask=True,
            clean=[Remove(kept)],
            doc=f"build all boxes of {name}: {', '.join(box.target for box in graph.boxes)}",
        )
    ]
    for box in graph.boxes:
        closure = graph.closure([box.pack])
        tasks.append(
            Task(
                f"build:{name}@{box.target}",
                None,
                task_dep=[action for action in graph.actions if action in closure],
                has_subtask=True,
                doc=f"build the box of {name} for {box.target}{': ' + box.quant if box.quant else ''}",
            )
        )
    return tasks


def _task(session: Session, graph: Graph, action: Action, check: Callable[[str], bool]) -> Task:
    boxes = {box.pack: box for box in graph.boxes}
    clean: list[Any] = []
    if action.name in boxes:
        box = session.project.dist / boxes[action.name].file_name
        clean = [Remove([os.fspath(path) for path in (box, *companion_paths(box))])]
    return Task(
        action.name,
        [RunAction(session, action.name)],
        task_dep=list(action.needs),
        uptodate=[Check(check, action.name)],
        clean=clean,
        subtask_of=f"build:{graph.flatpack}",
        doc=_DOCS[action.step],
        io={"capture": False},
    )
