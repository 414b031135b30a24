"""``Action``: one run of a step with fixed parameters and named inputs, and its name in the graph. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from flatpack_build.errors import Place
from flatpack_build.params import Params


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the user's, by its path. Only its bytes (and whether it may be executed) go into the key."""

    path: str


@dataclass(frozen=True, slots=True)
class SourceTree:
    """Files of the user's below ``root``, as paths relative to it with ``/``. These paths go into the key."""

    root: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What another action put at ``member`` of its output folder: a file or a folder. Empty: the whole folder."""

    action: str
    member: str = ""


Input: TypeAlias = SourceFile | SourceTree | Output


@dataclass(frozen=True)
class Action:
    """``name`` is what a person calls it (``compress:smollm2-chat@pi5``) and is not part of its key."""

    name: str
    params: Params
    inputs: Mapping[str, Input]

    @property
    def step(self) -> str:
        return self.params.step

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The names of the actions whose outputs it takes, sorted, each once."""
        return tuple(sorted({source.action for source in self.inputs.values() if isinstance(source, Output)}))


@dataclass(frozen=True)
class Surroundings:
    """What lies around the declared build step ``name``: nothing of this is part of its action key."""

    name: str
    place: Place
    """Where ``[build.<name>]`` stands."""
    root: str
    """The flatpack's folder."""
    inputs: tuple[str, ...]
    """As they are declared."""
    files: tuple[str, ...]
    """All files of the flatpack, relative to ``root``."""
    made: Mapping[str, str]
    """What the other build steps make: path or pattern -> the step's name."""


StepFunction: TypeAlias = Callable[[Params, Mapping[str, Path], Path], None]
"""What a step is: reads its inputs (files, or folders), writes below ``out``, an empty folder.

Raises ``FlatpackError``.

Inputs are read-only and shared: a step never writes to them. Everything below ``out`` becomes its output: regular
files and folders only, no links. Executability is kept, other permissions and times are not.
"""


def task_name(step: str, flatpack: str, *, part: str = "", target: str = "") -> str:
    """``<step>:<flatpack>[/<part>][@<target>]``, the name of an action and of its doit task."""
    return f"{step}:{flatpack}{'/' + part if part else ''}{'@' + target if target else ''}"
