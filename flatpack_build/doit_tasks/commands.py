"""``doit explain`` and ``doit plan``: why, and what, without doing it. Found by doit through its plug-in entry points."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from doit.cmd_base import Command
from doit.exceptions import InvalidCommand

from flatpack_build.doit_tasks.looking import long_look
from flatpack_build.doit_tasks.session import stamps_of
from flatpack_build.doit_tasks.state import forgotten_tasks
from flatpack_build.dryrun import dry_run
from flatpack_build.errors import FlatpackError, UsageError
from flatpack_build.explained import explain
from flatpack_build.inspection import Inspection
from flatpack_build.listing.explanations import explanations_json, explanations_text
from flatpack_build.listing.plans import dry_run_json, dry_run_text
from flatpack_build.listing.style import Style, style_of
from flatpack_build.project import Project, find_project

_JSON = {
    "name": "json",
    "short": "",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON for programs",
}


def open_inspection(project: Project) -> Inspection:
    """An inspection that heeds what was forgotten with ``doit forget``, and the stamps that builds go by."""
    stamps = stamps_of(project)
    return Inspection(
        project,
        lambda graphs: forgotten_tasks(project.build / "doit.json", graphs),
        lambda flatpack, targets: stamps.fresh(flatpack, targets, relied_on=False) is not None,
    )


class _Looking(Command, ABC):  # type: ignore[misc]  # doit has no types
    """A command that looks at the project and changes nothing."""

    cmd_options = (_JSON,)

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        root = os.getcwd()
        try:
            project = find_project(Path.cwd())
            root = os.fspath(project.root)
            names = [name for name in pos_args if name != "--json"]  # doit takes no option after a name
            for name in names:
                if name.startswith("-"):
                    raise UsageError(f"there is no option {name!r}", hint=f"see: doit help {self.name}")
            as_json = bool(opt_values["json"]) or len(names) < len(pos_args)
            text, status = self.answer(open_inspection(project), names, as_json)
        except FlatpackError as error:
            raise InvalidCommand(error.shown(root)) from error
        sys.stdout.write(text + "\n")
        return status

    @abstractmethod
    def answer(self, inspection: Inspection, names: list[str], as_json: bool) -> tuple[str, int]:
        """What to write, and the exit status. Raises ``FlatpackError``."""


class Explain(_Looking):
    """``doit explain``."""

    name = "explain"
    doc_purpose = "say why a task would be built again, or why not"
    doc_usage = "[TASK|FLATPACK ...]"
    doc_description = "Nothing is run and nothing is written."

    def answer(self, inspection: Inspection, names: list[str], as_json: bool) -> tuple[str, int]:
        return explain_answer(inspection, names, as_json), 0


class Plan(_Looking):
    """``doit plan``."""

    name = "plan"
    doc_purpose = "say what a build would run, and about how long it would take"
    doc_usage = "[TASK|FLATPACK ...]"
    doc_description = "Nothing is run and nothing is written."

    def answer(self, inspection: Inspection, names: list[str], as_json: bool) -> tuple[str, int]:
        return plan_answer(inspection, names, as_json)


def explain_answer(inspection: Inspection, names: list[str], as_json: bool) -> str:
    """Raises ``FlatpackError``."""
    with long_look():
        explained = explain(inspection, names)
    if as_json:
        return explanations_json(explained.explanations)
    return _text(explanations_text(explained, style()))


def plan_answer(inspection: Inspection, names: list[str], as_json: bool) -> tuple[str, int]:
    """Text and exit status: 1 when something cannot be built as things stand. Raises ``FlatpackError``."""
    with long_look():
        plan = dry_run(inspection, names)
    return dry_run_json(plan) if as_json else _text(dry_run_text(plan, style())), 1 if plan.count("fails") else 0


def style() -> Style:
    return style_of(sys.stdout)


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip()
