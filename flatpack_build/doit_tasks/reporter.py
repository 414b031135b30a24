"""doit's reporter for builds: says what ran as it ends, and closes with the table of boxes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from doit.exceptions import BaseFail, InvalidCommand, UnmetDependency
from doit.reporter import ConsoleReporter

from flatpack_build.doit_tasks.looking import LongLook
from flatpack_build.errors import FlatpackError
from flatpack_build.finished import FinishedBox
from flatpack_build.listing.style import style_of
from flatpack_build.listing.table import table, width_of
from flatpack_build.views import View, size_text, time_text, view_for

if TYPE_CHECKING:
    from flatpack_build.doit_tasks.session import Session

_ROWS = 40
_COLUMNS = ("target", "quantisation", "size", "time", "state", "box")


class BuildReporter(ConsoleReporter):  # type: ignore[misc]  # doit has no types
    """Bound to one session by a subclass that names it: doit makes the instance itself."""

    desc = "progress, notes and the table of boxes"
    session: Session

    def __init__(self, outstream: TextIO, options: dict[str, Any]) -> None:
        super().__init__(outstream, options)
        self._start = time.monotonic()
        self.view: View = view_for(outstream)
        self._look = LongLook(self.view)
        self._looked_at = 0
        self._tasks = 0
        self._failed: list[str] = []
        self._ran = 0
        self.session.view = self.view

    def write(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # whoever read it has seen enough; what was built stands
            super().write(text)

    def initialize(self, tasks: Mapping[str, Any], selected_tasks: Collection[str]) -> None:
        self._tasks = len(tasks)
        self.session.selected = lambda: _with_dependencies(tasks, selected_tasks)

    def execute_task(self, task: Any) -> None:
        self._look.close()
        if task.actions:
            self.view.start(task.name)

    def skip_uptodate(self, task: Any) -> None:
        self._looked_at += 1  # the table says what they are
        self._look.progress(self._looked_at, self._tasks, "tasks")

    def skip_ignore(self, task: Any) -> None:
        self.view.line(f"  ignored  {task.name}")

    def add_success(self, task: Any) -> None:
        if not task.actions:
            return
        self.view.end(task.name)
        self.session.succeeded(task.name)
        outcome = self.session.outcomes.get(task.name)
        if outcome is None:  # a task of the user's own
            self.view.line(f"  done     {task.name}")
            return
        self._ran += outcome.state == "built"
        size = size_text(outcome.result.size)
        self.view.line(f"  {outcome.state:<8} {task.name:<44} {size:>9}  {time_text(outcome.seconds):>7}")
        if outcome.state == "built":
            for note in outcome.result.notes:
                self.view.line(f"           {note}")

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        self.view.end(task.name)
        self._failed.append(task.name)
        if isinstance(fail, UnmetDependency):
            self.view.line(f"  not run  {task.name}: needs {fail.message}")
        else:
            self.view.line(f"  FAILED   {task.name}")
            self.view.line("  " + fail.get_msg().strip().replace("\n", "\n  "))
            self.session.failed(task.name, fail.get_msg())

    def cleanup_error(self, exception: BaseFail) -> None:
        self.view.line(exception.get_msg())

    def complete_run(self) -> None:
        self._look.close()
        self.view.close()
        for message in self.runtime_errors:
            self.write(f"ERROR: {message}\n")
        boxes = self.session.boxes()
        if boxes:
            self._table(boxes)
        self._summary(len(boxes))
        try:
            self.session.report()
        except FlatpackError as error:
            raise InvalidCommand(error.shown(str(self.session.project.root))) from error
        finally:
            if self.session.trouble:
                self.write(f"warning: {self.session.trouble}\n")
            self.session.close()
        if sys.exc_info()[0] is None:  # doit calls this while Ctrl-C is on its way out, too
            tidied = self.session.tidy_cache()
            if tidied:
                self.write(tidied + "\n")

    def _table(self, boxes: list[FinishedBox]) -> None:
        quiet = [box for box in boxes if box.state == "up to date"]
        if len(boxes) > _ROWS:  # nobody reads hundreds of rows in which nothing happened
            boxes = [box for box in boxes if box.state != "up to date"]
            if not boxes:
                self.write(f"{len(quiet)} boxes are up to date\n")
                return
        rows: list[tuple[str, ...]] = [
            (
                box.target,
                box.quant or "-",
                size_text(box.size),
                time_text(box.seconds) if box.seconds else "-",
                "from cache" if box.state == "cached" else box.state,
                self.session.shown(box.path),
            )
            for box in boxes
        ]
        self.write("\n")
        for line in table(_COLUMNS, rows, width=width_of(self.outstream), style=style_of(self.outstream)):
            self.write(line + "\n")

    def _summary(self, boxes: int) -> None:
        outcomes = self.session.outcomes
        spent = time_text(time.monotonic() - self._start)
        cached = sum(outcome.state == "cached" for outcome in outcomes.values())
        counted = [f"{self._ran} built"] if self._ran else []
        counted += [f"{cached} from the cache"] if cached else []
        fresh = sum(outcome.state == "up to date" for outcome in outcomes.values())
        fresh += sum(stamp.actions for stamp in self.session.fresh.values())
        counted += [f"{fresh} up to date"] if fresh else []
        if self._failed:
            counted.append(f"{len(self._failed)} failed or not run")
        if counted or boxes:
            signed = f"; signed by {self.session.signed_by()}" if boxes else ""
            self.write(f"\n{', '.join(counted)} in {spent}{signed}\n")


def _with_dependencies(tasks: Mapping[str, Any], selected: Collection[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(selected)
    while waiting:
        name = waiting.pop()
        if name in tasks and name not in found:
            found.add(name)
            waiting.extend(tasks[name].task_dep)
    return found
