"""Reports of builds that never were."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from flatpack_build.digest import ActionKey
from flatpack_build.finished import FinishedBox
from flatpack_build.record import ActionLine, LineState
from flatpack_build.report.model import BuildReport

STARTED = datetime(2026, 11, 18, 12, 3, 5, 250_000, tzinfo=UTC)


def line(
    action: str, state: LineState = "built", *, seconds: float = 1.0, error: str = "", error_type: str = "StepError"
) -> ActionLine:
    return ActionLine(
        action,
        action.partition(":")[0],
        state,
        ActionKey("a" * 64),
        seconds,
        step_seconds=seconds,
        peak_memory=5_000_000,
        size=1234,
        executor="local",
        error=error,
        error_type=error_type if error else "",
    )


def box(name: str, target: str = "pi5", quant: str = "Q4_0") -> FinishedBox:
    path = Path(f"/p/dist/{name}-0.1.0-{target}.fpk")
    return FinishedBox(name, target, f"pack:{name}@{target}", quant, path, 92_300_000, "built", 12.5)


def report(*lines: ActionLine, boxes: tuple[FinishedBox, ...] = (), problem: str = "") -> BuildReport:
    return BuildReport(STARTED, 65.0, lines, boxes, problem, "key abc" if boxes else "")


HOSTILE = (
    "a | b `c` ``` <img src=x> [l](u) *s* \x1b[31mred\x1b[0m \x00\x08 \udcff \ufffe ]]> & 'q' \"d\" \u2028 ü\nline two"
)
