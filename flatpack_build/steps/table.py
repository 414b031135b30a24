"""The one table of steps. Importing it imports no step: each is loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module

from flatpack_build.action import StepFunction

_MODULES = {
    "fetch": "flatpack_build.steps.fetch",
    "verify": "flatpack_build.steps.verify",
    "convert": "flatpack_build.steps.convert",
    "compress": "flatpack_build.steps.compress",
    "device": "flatpack_build.steps.device",
    "run": "flatpack_build.steps.run",
    "assemble": "flatpack_build.steps.assemble",
    "index": "flatpack_build.steps.index",
    "pack": "flatpack_build.steps.pack",
}


def step_function(step: str) -> StepFunction:
    """The function of a step. Loaded late: most builds run few of them, and some bring heavy libraries."""
    function: StepFunction = import_module(_MODULES[step]).run
    return function
