"""``BuildReport``: everything that can be told of a build. Plain data; knows no format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from flatpack_build.finished import FinishedBox
from flatpack_build.record import ActionLine, LineState

_COUNTED: tuple[tuple[LineState, str], ...] = (
    ("built", "built"),
    ("cached", "from the cache"),
    ("up to date", "up to date"),
    ("failed", "failed"),
    ("not run", "not run"),
)


@dataclass(frozen=True)
class BuildReport:
    """``started`` is UTC, ``seconds`` wall time. ``problem`` is the text of an error that kept the build from beginning.

    ``lines`` hold each action once, ``signed_by`` names the key for a person.
    """

    started: datetime
    seconds: float
    lines: Collection[ActionLine] = ()
    boxes: Collection[FinishedBox] = ()
    problem: str = ""
    signed_by: str = ""

    @property
    def failed(self) -> list[ActionLine]:
        return [line for line in self.lines if line.state == "failed"]

    @property
    def counts(self) -> str:
        """``3 built, 2 up to date``; empty when there was nothing."""
        found = Counter(line.state for line in self.lines)
        return ", ".join(f"{found[state]} {words}" for state, words in _COUNTED if found[state])

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for is there."""
        return not self.problem and all(line.state not in ("failed", "not run") for line in self.lines)
