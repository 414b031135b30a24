"""What an executor is asked and what it answers: one step over folders of this machine. Knows no store and no graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flatpack_build.action import Surroundings
from flatpack_build.events import Listener
from flatpack_build.params import Params


@dataclass(frozen=True)
class Job:
    """Run the step of ``params`` over ``inputs`` (files or folders, read-only) into ``out`` (an empty folder)."""

    name: str
    params: Params
    inputs: Mapping[str, Path]
    out: Path
    around: Surroundings | None = None
    """Of a declared build step: what lies around it, to explain what it misses."""


@dataclass(frozen=True)
class Execution:
    """How a job went. ``peak_memory`` is in bytes, 0 when it cannot be told apart from the builder's own; ``executor``
    says where it ran."""

    seconds: float
    peak_memory: int
    notes: tuple[str, ...]
    executor: str = "local"


class Executor(Protocol):
    """Somewhere to run jobs."""

    def run(self, job: Job, listener: Listener) -> Execution:
        """Raises ``FlatpackError``: the step's own error, or ``CrashError`` when its process died."""
