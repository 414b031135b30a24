"""Times whole commands, two in turn, so that a machine whose speed drifts changes both alike. Knows no project."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ratio:
    """Medians in seconds of two commands, and the median of their ratios run by run."""

    ours: float
    other: float
    ratio: float
    runs: int

    def __str__(self) -> str:
        return f"{self.ours:.3f} s against {self.other:.3f} s: {self.ratio:.2f} x (medians of {self.runs} pairs)"


def wall(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Seconds of one run. Raises ``CalledProcessError`` when it fails, with what it said."""
    start = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def paired(
    ours: Sequence[str], other: Sequence[str], folder: Path, environment: Mapping[str, str], *, runs: int = 15
) -> Ratio:
    """Run both in turn, one warm-up each first."""
    for command in (ours, other):
        wall(command, folder, environment)
    pairs = [(wall(ours, folder, environment), wall(other, folder, environment)) for _ in range(runs)]
    return Ratio(
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
        runs,
    )
