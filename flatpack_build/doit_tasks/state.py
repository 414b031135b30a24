"""What doit is to remember between runs: which tasks to forget or to ignore, and the state of the user's own tasks.

doit's idea of "up to date" has no say over the tasks of flatpacks (docs/adr/0001), so their successes are not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.exceptions import InvalidCommand

from flatpack_build.fs import atomic_write

if TYPE_CHECKING:
    from flatpack_build.graph import Graph

_FORGOTTEN = "forgotten:"
_IGNORED = "ignore:"


class State:
    """A doit backend: one small JSON file, written whole or not at all; a damaged one is an empty one."""

    desc = "which tasks to forget or ignore"

    def __init__(self, name: str, codec: object, **_options: object) -> None:
        self.name = name
        self._path = Path(name)
        self._tasks: dict[str, dict[str, Any]] = {}
        self._changed = False
        self.forgetting = False
        """Set while ``doit forget`` runs: only then does removing a task mean that it shall run again."""
        self.keyed: frozenset[str] = frozenset()
        """The tasks of flatpacks: their action keys judge them."""
        try:
            value = json.loads(self._path.read_bytes())
            self._tasks = {str(task): dict(marks) for task, marks in value.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            pass

    @property
    def forgotten(self) -> frozenset[str]:
        return frozenset(task for task, marks in self._tasks.items() if _FORGOTTEN in marks)

    @property
    def marked(self) -> frozenset[str]:
        """Tasks with a mark of any kind."""
        return frozenset(self._tasks)

    def spread(self, group: str, members: Iterable[str]) -> None:
        """Forgetting a group means forgetting its members: each is then remembered again when it has run."""
        if self._tasks.get(group, {}).pop(_FORGOTTEN, None) is not None:
            for member in members:
                self._tasks.setdefault(member, {})[_FORGOTTEN] = True
            self._changed = True

    def remember(self, task: str) -> None:
        """A forgotten task has run again."""
        if self._tasks.get(task, {}).pop(_FORGOTTEN, None) is not None:
            self._changed = True

    # --- what doit calls

    def get(self, task_id: str, dependency: str) -> Any:  # doit's codec reads these
        return self._tasks.get(task_id, {}).get(dependency)

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        if dependency == _IGNORED or task_id not in self.keyed:
            self._tasks.setdefault(task_id, {})[dependency] = value
            self._changed = True

    def in_(self, task_id: str) -> bool:
        return task_id in self._tasks

    def remove(self, task_id: str) -> None:
        if task_id not in self.keyed:
            self._changed = self._tasks.pop(task_id, None) is not None or self._changed
        elif self.forgetting:
            self._tasks[task_id] = {_FORGOTTEN: True}
            self._changed = True

    def remove_all(self) -> None:
        self._tasks = {}
        self._changed = True

    def dump(self) -> None:
        if self._changed:
            kept = {task: marks for task, marks in self._tasks.items() if marks}
            try:
                atomic_write(self._path, json.dumps(kept, sort_keys=True).encode())
            except OSError as error:
                raise InvalidCommand(f"cannot write {self._path}: {error.strerror}") from error
            self._changed = False


def spread_groups(state: State, graphs: Iterable[Graph]) -> None:
    """Forgetting a box or a flatpack means forgetting what it is made from."""
    for graph in graphs:
        state.spread(f"build:{graph.flatpack}", graph.actions)
        for box in graph.boxes:
            state.spread(f"build:{graph.flatpack}@{box.target}", graph.closure([box.pack]))


def forgotten_tasks(path: Path, graphs: Iterable[Graph]) -> frozenset[str]:
    """The tasks that will run again because they were forgotten. Writes nothing."""
    state = State(str(path), None)
    spread_groups(state, graphs)
    return state.forgotten
