"""How long an action will take and how much it will make, judged by past runs. Pure; knows no store and no graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flatpack_build.digest import Json

# What the work of a step is about, where its inputs alone do not tell: only runs with the same value are like it.
_ABOUT = {"fetch": "parameter source", "run": "parameter command"}
# Below this many bytes an action's time is that of starting it.
_STARTING = 1_000_000


@dataclass(frozen=True)
class Run:
    """A past run. ``input_size`` and ``size`` (of its output) in bytes; ``parts`` is the walk of its key."""

    action: str
    step: str
    parts: Mapping[str, Json]
    input_size: int
    seconds: float
    size: int


@dataclass(frozen=True)
class Estimate:
    """``seconds`` of work and ``size`` in bytes of what comes out."""

    seconds: float
    size: int


def estimate(
    action: str, step: str, parts: Mapping[str, Json], input_size: int, runs: Iterable[Run]
) -> Estimate | None:
    """By the past run most like this one: of the same step, with inputs nearest in size. ``None``: there is none.

    Among equally near ones that of the same action wins, then the one with the fewest other parameters.
    """
    about = _ABOUT.get(step)
    alike = [run for run in runs if run.step == step and (about is None or run.parts.get(about) == parts.get(about))]
    if not alike:
        return None

    def distance(run: Run) -> tuple[float, bool, int, float, int]:
        apart = abs(math.log2(_work(input_size) / _work(run.input_size)))
        others = sum(1 for name, value in parts.items() if run.parts.get(name) != value)
        return round(apart, 1), run.action != action, others, run.seconds, run.size

    nearest = min(alike, key=distance)
    scale = _work(input_size) / _work(nearest.input_size)
    return Estimate(nearest.seconds * scale, round(nearest.size * scale))


def _work(size: int) -> int:
    return max(size, _STARTING)
