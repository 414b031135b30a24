"""What doit calls for one task of a flatpack: is it up to date, run it, clean it. Knows one session and no command line."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

from doit.action import BaseAction
from doit.exceptions import BaseFail, TaskError, TaskFailed
from doit.task import Task

from flatpack_build.doit_tasks.session import Session
from flatpack_build.errors import FlatpackError


class RunAction(BaseAction):  # type: ignore[misc]  # doit has no types
    """Runs one action of the graph as the action of a doit task."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self.task: Task | None = None
        self.out = self.err = self.result = None
        self.values: dict[str, object] = {}

    def execute(self, out: object = None, err: object = None) -> BaseFail | None:
        assert self._session.builder is not None
        try:
            self._session.builder.run(self._name, self._session.listener(self._name))
        except FlatpackError as error:
            return TaskFailed(error.shown(os.fspath(self._session.project.root)))
        except Exception as error:  # noqa: BLE001 - a bug: doit's threads would lose its traceback
            return TaskError(f"{self._name}: this is a bug in flatpack-build, please report it", error)
        return None


class Check:
    """Asks whether an action is up to date. Bears its signature: doit asks for it, and reading it off is slow."""

    __signature__ = inspect.Signature()

    def __init__(self, check: Callable[[str], bool], name: str) -> None:
        self._check = check
        self._name = name

    def __call__(self) -> bool:
        return self._check(self._name)


class Remove(BaseAction):  # type: ignore[misc]
    """The clean action of a task: what it left in the project, not what the cache holds."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self.task: Task | None = None
        self.out = self.err = self.result = None
        self.values: dict[str, object] = {}

    def __str__(self) -> str:
        return "remove " + ", ".join(self._paths)

    def execute(self, out: Any = None, err: object = None) -> TaskFailed | None:
        for path in self._paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                return TaskFailed(f"cannot remove {path}: {error.strerror}")
        return None
