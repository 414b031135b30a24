"""``Graph``: the actions of one flatpack in an order in which they can run, and its boxes. Pure data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flatpack_build.action import Action, Input, Output, SourceFile, SourceTree
from flatpack_build.digest import Json
from flatpack_build.errors import PlanError
from flatpack_build.params import params_from_json


@dataclass(frozen=True)
class BoxPlan:
    """One box to make: the payload of action ``pack``, signed, under ``file_name`` in the folder of boxes."""

    target: str
    pack: str
    file_name: str
    quant: str
    """As a person wants to see it: ``Q4_0``, ``as it is``, or empty without a model."""


@dataclass(frozen=True)
class Graph:
    """``actions`` stand in topological order: each after all that it needs."""

    flatpack: str
    actions: Mapping[str, Action]
    boxes: tuple[BoxPlan, ...]

    def closure(self, names: Iterable[str]) -> frozenset[str]:
        """The named actions and everything they need."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.actions[name].needs)
        return frozenset(found)

    def to_json(self) -> dict[str, Json]:
        return {
            "flatpack": self.flatpack,
            "actions": [
                {
                    "name": action.name,
                    "step": action.step,
                    "params": action.params.to_json(),
                    "inputs": {name: _input_to_json(source) for name, source in action.inputs.items()},
                }
                for action in self.actions.values()
            ],
            "boxes": [[box.target, box.pack, box.file_name, box.quant] for box in self.boxes],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Graph:
        """Raises ``ValueError`` when ``value`` is not what ``to_json`` of this version gives."""
        try:
            actions = {
                item["name"]: Action(
                    item["name"],
                    params_from_json(item["step"], item["params"]),
                    {name: _input_from_json(source) for name, source in item["inputs"].items()},
                )
                for item in value["actions"]
            }
            return cls(value["flatpack"], actions, tuple(BoxPlan(*box) for box in value["boxes"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a graph: {error}") from error


def _input_to_json(source: Input) -> Json:
    if isinstance(source, SourceFile):
        return ["file", source.path]
    if isinstance(source, SourceTree):
        return ["tree", source.root, list(source.files)]
    return ["output", source.action, source.member]


def _input_from_json(value: Any) -> Input:
    kind, *rest = value
    if kind == "file":
        return SourceFile(*rest)
    if kind == "tree":
        return SourceTree(rest[0], tuple(rest[1]))
    return Output(*rest)


def in_order(flatpack: str, actions: Iterable[Action]) -> Mapping[str, Action]:
    """Sort actions so that each stands after all that it needs. Raises ``PlanError`` naming a cycle."""
    by_name = {action.name: action for action in actions}
    done: dict[str, Action] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        if name in path:
            cycle = [*path[path.index(name) :], name]
            raise PlanError(
                f"{flatpack}: these need each other: {' -> '.join(cycle)}",
                hint="let one of them get along without the other's output",
            )
        path.append(name)
        for need in by_name[name].needs:
            visit(need)
        path.pop()
        done[name] = by_name[name]

    for name in by_name:
        visit(name)
    return done
