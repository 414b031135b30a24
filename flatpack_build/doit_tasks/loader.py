"""doit's task loader for a warehouse: makes the tasks that were asked for, and no others."""

from __future__ import annotations

import atexit
import contextlib
import fnmatch
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from doit import loader as doit_loader
from doit.cmd_base import TaskLoader2, opt_dodo
from doit.cmd_forget import Forget
from doit.exceptions import InvalidCommand, InvalidDodoFile
from doit.task import Task

from flatpack_build.doit_tasks.looking import LongLook
from flatpack_build.doit_tasks.options import BuildOptions
from flatpack_build.doit_tasks.reporter import BuildReporter
from flatpack_build.doit_tasks.session import Session
from flatpack_build.doit_tasks.state import State
from flatpack_build.errors import FlatpackError, LockError, Place, UsageError
from flatpack_build.project import find_project
from flatpack_build.stamps import Stamp
from flatpack_build.views import view_for

if TYPE_CHECKING:
    from flatpack_build.graph import Graph

_TASK = re.compile(r"(?P<step>[^:]+):(?P<flatpack>[^/@]+)(?:/(?P<part>[^@]*))?(?:@(?P<target>.*))?")


class WarehouseLoader(TaskLoader2):  # type: ignore[misc]
    """Named in ``pyproject.toml`` (``[tool.doit] loader``). Selecting one flatpack reads that flatpack only."""

    cmd_options = (opt_dodo,)

    def __init__(self, options: BuildOptions | None = None) -> None:
        super().__init__()
        self.options = options or BuildOptions.from_environment(os.environ)

    def setup(self, opt_values: dict[str, Any]) -> None:
        sys.excepthook = _quiet_interrupt(sys.excepthook)
        try:
            self.project = find_project(Path.cwd())
        except FlatpackError as error:
            raise InvalidDodoFile(str(error)) from error
        self.session = Session(self.project, self.options)
        # A report names every action, so each is looked at.
        self._thorough = bool(opt_values.get("always") or opt_values.get("single") or self.options.reports)
        atexit.register(self.session.close)  # whichever reporter runs, and however the run ends
        dodo = self.project.root / str(opt_values.get("dodoFile") or "dodo.py")
        self._own: dict[str, Any] = vars(doit_loader.get_module(os.fspath(dodo))) if dodo.exists() else {}

    def load_doit_config(self) -> dict[str, Any]:
        class Bound(BuildReporter):
            session = self.session

        config: dict[str, Any] = {
            "backend": "flatpack",
            "dep_file": os.fspath(self.project.build / "doit.json"),
            "reporter": Bound,
            "num_process": self.project.jobs,
            "par_type": "thread",
            "verbosity": 2,
        }
        config.update(doit_loader.load_doit_config(self._own))
        return config

    def load_tasks(self, cmd: Any, pos_args: list[str]) -> list[Task]:
        executes = bool(getattr(cmd, "execute_tasks", False))
        state = cmd.dep_manager.backend
        assert isinstance(state, State)
        state.forgetting = isinstance(cmd, Forget)
        self.session.state = state
        own = doit_loader.load_tasks(
            self._own,
            self.cmd_names,
            allow_delayed=executes,
            args=pos_args,
            config=self.config,
            task_opts=self.task_opts,
        )
        try:
            if executes:
                self._expect_reports()
            ours = self._tasks(pos_args, executes, state, {task.name for task in own})
        except FlatpackError as error:
            raise InvalidCommand(self._give_up(error)) from error
        state.keyed = frozenset(task.name for task in ours)
        return [*ours, *own]

    def _expect_reports(self) -> None:
        options = self.options
        if options.reports:
            from flatpack_build.report.files import check_place  # for CI: most builds report to nobody

            check_place("the summary", options.summary)
            check_place("the JUnit report", options.junit)
            check_place("the record", options.record)
        self.session.executes = True

    def _give_up(self, error: FlatpackError) -> str:
        """End a build that could not begin, and report that; what to say of it."""
        root = os.fspath(self.project.root)
        shown = error.shown(root)
        try:
            self.session.report(shown)
        except FlatpackError as second:
            shown += f"\n{second.shown(root)}"
        self.session.close()
        return shown

    # --- selection

    def _selected(self, pos_args: Collection[str], own: Collection[str]) -> list[str]:
        """The flatpacks that the command line names; all when it names none."""
        if not pos_args:
            return self.project.flatpacks()
        names: dict[str, None] = {}
        for argument in pos_args:
            if argument in own:
                continue
            match = _TASK.fullmatch(argument)
            if match is None:
                if self.project.has_flatpack(argument):
                    raise UsageError(f"there is no task {argument!r}", hint=f"its boxes: doit build:{argument}")
                continue  # a mistake that doit will name
            wanted = match["flatpack"]
            if any(character in wanted for character in "*?["):
                names.update(dict.fromkeys(fnmatch.filter(self.project.flatpacks(), wanted)))
            else:
                self.project.flatpack_folder(wanted)
                names[wanted] = None
        return list(names)

    def _tasks(self, pos_args: list[str], executes: bool, state: State, own: Collection[str]) -> list[Task]:
        if executes:
            self._need_key(pos_args)
        whole = self._whole(pos_args, state) if executes else {}
        fresh = self._fresh(whole)
        selected = self._selected(pos_args, own)
        tasks = [task for name in selected if name in fresh for task in _fresh_groups(name, fresh[name], pos_args)]
        rest = [name for name in selected if name not in fresh]
        if rest and executes:
            tasks += self._tasks_to_run(rest, pos_args, whole, state)
        elif rest:
            tasks += self._tasks_to_show(rest, state)
        _refuse_unknown({*own, *(task.name for task in tasks)}, pos_args)
        return tasks

    def _tasks_to_run(
        self, names: Sequence[str], pos_args: list[str], whole: Mapping[str, Collection[str]], state: State
    ) -> list[Task]:
        from flatpack_build.doit_tasks.graph_tasks import graph_tasks  # brings what a build of nothing does without

        engine = self.session.engine()
        engine.hold_cache()
        tasks: list[Task] = []
        graphs: list[Graph] = []
        with contextlib.closing(LongLook()) as look:
            for number, name in enumerate(names, 1):
                if not engine.planner.lock_file(name).exists():
                    look.close()
                    self._lock(name)
                graph = engine.planner.graph(name)
                stamp = engine.settle(graph, whole[name]) if name in whole else None
                if stamp is not None:
                    self.session.fresh[name] = stamp
                    tasks += _fresh_groups(name, stamp, pos_args)
                else:
                    graphs.append(graph)
                look.progress(number, len(names), "flatpacks")
        return [*tasks, *graph_tasks(self.session, graphs, state)]

    def _tasks_to_show(self, names: Sequence[str], state: State) -> list[Task]:
        from flatpack_build.doit_tasks.graph_tasks import bare_tasks, graph_tasks  # as above

        planner = self.session.engine().planner
        locked = [name for name in names if planner.lock_file(name).exists()]
        # Of the others it is not known yet what they need, but what they are built for is.
        unlocked = sorted(set(names).difference(locked))
        bare = [task for name in unlocked for task in bare_tasks(name, planner.targets(name).names)]
        with contextlib.closing(LongLook()) as look:
            graphs = []
            for number, name in enumerate(locked, 1):
                graphs.append(planner.graph(name))
                look.progress(number, len(locked), "flatpacks")
        return [*graph_tasks(self.session, graphs, state), *bare]

    def _whole(self, pos_args: Collection[str], state: State) -> dict[str, Collection[str]]:
        """The selected flatpacks of which boxes are wanted and nothing else, so that they need no tasks where there is
        nothing to do: with the targets that are wanted (none: all)."""
        if self._thorough:
            return {}
        wanted: dict[str, set[str]] = {}
        for argument in pos_args or [f"build:{name}" for name in self.project.flatpacks()]:
            match = _TASK.fullmatch(argument)
            if match is None or match["step"] != "build" or match["part"] or "*" in argument:
                return {}  # a single step is asked for: its task has to be there
            wanted.setdefault(match["flatpack"], set()).update([match["target"]] if match["target"] else [])
            if not match["target"]:
                wanted[match["flatpack"]].add("")
        marked = {match["flatpack"] for match in map(_TASK.fullmatch, state.marked) if match}
        return {name: () if "" in targets else targets for name, targets in wanted.items() if name not in marked}

    def _fresh(self, whole: Mapping[str, Collection[str]]) -> dict[str, Stamp]:
        """Those of which nothing at all has changed: no plan and no key is needed."""
        for name, targets in whole.items():
            stamp = self.session.stamps.fresh(name, targets)
            if stamp is not None:
                self.session.fresh[name] = stamp
        return self.session.fresh

    def _lock(self, name: str) -> None:
        engine = self.session.engine()
        if self.options.locked:
            raise LockError(
                "there is no lock, and this build may not make one",
                place=Place(os.fspath(engine.planner.lock_file(name))),
                hint=f"run: flatpack lock {name}, and commit the lock",
            )
        from flatpack_build.locker import lock_flatpack  # brings the fetchers: only the first build of a flatpack locks

        view = view_for(sys.stdout)
        view.line(f"{name} has no flatpack.lock yet: resolving its sources")
        try:
            lock_flatpack(self.project, name, engine.runner, view)
        finally:
            view.close()

    def _need_key(self, pos_args: list[str]) -> None:
        """A missing key is said before hours of work, not after."""
        if not pos_args or any(argument.startswith(("build:", "pack:")) for argument in pos_args):
            _ = self.session.signer.key_id
            _ = self.session.model_signer and self.session.model_signer.key_id


def _fresh_groups(name: str, stamp: Stamp, pos_args: Collection[str]) -> list[Task]:
    groups = [f"build:{name}@{box.target}" for box in stamp.boxes]
    asked = [group for group in groups if group in pos_args]
    if not asked or f"build:{name}" in pos_args:
        asked.append(f"build:{name}")
    return [Task(group, None) for group in asked]


def _refuse_unknown(known: set[str], pos_args: Sequence[str]) -> None:
    for argument in pos_args:
        match = _TASK.fullmatch(argument)
        if match is None or argument in known:
            continue
        if "*" in argument:
            if not fnmatch.filter(known, argument):
                raise UsageError(f"no task matches {argument!r}", hint="see: doit list --all")
            continue
        group = f"build:{match['flatpack']}"
        targets = sorted(name.removeprefix(f"{group}@") for name in known if name.startswith(f"{group}@"))
        if match["step"] == "build" and match["target"] and targets:
            raise UsageError(
                f"{match['flatpack']} is not built for {match['target']!r}", hint=f"its targets: {', '.join(targets)}"
            )
        import difflib  # only for a mistake

        near = difflib.get_close_matches(argument, known, n=1)
        raise UsageError(
            f"there is no task {argument!r}",
            hint=f"did you mean {near[0]!r}?" if near else "see: doit list --all",
        )


def _quiet_interrupt(before: Any) -> Any:
    """Ctrl-C ends a build with a sentence instead of a traceback."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("\ninterrupted: what was finished is kept, build again to go on\n")
        else:
            before(kind, error, trace)

    return hook
