"""A build report as Markdown for the page of a CI job. Pure: text in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from flatpack_build.record import ActionLine
from flatpack_build.report.model import BuildReport
from flatpack_build.views import size_text, time_text

# A job page takes about a megabyte; what is longer would be refused as a whole.
_BOXES = 500
_ACTIONS = 50
_FAILURES = 30
_ERROR_BYTES = 16_000
_NOTES = 50

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def markdown(report: BuildReport) -> str:
    """Boxes, failures with their whole text, and what ran, the slowest first."""
    parts = [f"## {_title(report)}\n"]
    counts = f"{report.counts} in {time_text(report.seconds)}" if report.lines else ""
    signed = f"signed by {_text(report.signed_by)}" if report.boxes and report.signed_by else ""
    if counts or signed:
        parts.append("; ".join(filter(None, (counts, signed))) + ".\n")
    if report.problem:
        parts.append(_fenced(report.problem))
    if report.boxes:
        parts.append(_boxes(report))
    parts += _failures(report.failed)
    parts += _ran([line for line in report.lines if line.state == "built"])
    parts += _notes([line for line in report.lines if line.state == "built" and line.notes])
    return "\n".join(parts)


def _title(report: BuildReport) -> str:
    if report.problem:
        return "The build could not begin"
    if report.failed:
        return f"The build failed: {len(report.failed)} of {len(report.lines)} actions"
    if not report.complete:
        return "The build was not finished"
    if not report.boxes:
        return "Built"
    return f"{len(report.boxes)} box{'es' if len(report.boxes) > 1 else ''}"


def _boxes(report: BuildReport) -> str:
    rows = [
        (
            _code(box.path.name),
            _text(box.target),
            _text(box.quant or "-"),
            size_text(box.size),
            time_text(box.seconds) if box.seconds else "-",
            "from the cache" if box.state == "cached" else box.state,
        )
        for box in list(report.boxes)[:_BOXES]
    ]
    return _table(("box", "target", "quantisation", "size", "time", "state"), rows, len(report.boxes) - len(rows))


def _failures(failed: Sequence[ActionLine]) -> list[str]:
    parts = ["### Failed\n"] if failed else []
    for line in failed[:_FAILURES]:
        parts += [f"{_code(line.action)} after {time_text(line.seconds)}:\n", _fenced(line.error)]
    if len(failed) > _FAILURES:
        parts.append(f"… and {len(failed) - _FAILURES} more.\n")
    return parts


def _ran(built: Sequence[ActionLine]) -> list[str]:
    if not built:
        return []
    slowest = sorted(built, key=lambda line: -line.seconds)[:_ACTIONS]
    rows = [
        (
            _code(line.action),
            time_text(line.seconds),
            size_text(line.peak_memory) if line.peak_memory else "-",
            size_text(line.size),
            _text(line.executor),
        )
        for line in slowest
    ]
    table = _table(("action", "time", "peak memory", "output", "where"), rows, len(built) - len(rows))
    return ["### What ran, the slowest first\n", table]


def _notes(noted: Sequence[ActionLine]) -> list[str]:
    notes = [f"- {_code(line.action)}: {_text(note)}" for line in noted for note in line.notes]
    if len(notes) > _NOTES:
        notes = [*notes[:_NOTES], f"- … and {len(notes) - _NOTES} more"]
    return ["### Notes\n", "\n".join(notes) + "\n"] if notes else []


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], more: int) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n" + (f"\n… and {more} more.\n" if more else "")


def _plain(text: str) -> str:
    return _CONTROL.sub("", text.encode(errors="backslashreplace").decode())


def _text(text: str) -> str:
    """Text that means itself, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(_plain(text).split()))


def _code(text: str) -> str:
    """Short code in a table cell or a sentence; a bar ends a cell even inside code."""
    return "`" + " ".join(_plain(text).split()).replace("`", "'").replace("|", r"\|") + "`"


def _fenced(text: str) -> str:
    text = _plain(text).rstrip()
    if len(text) > _ERROR_BYTES:
        half = _ERROR_BYTES // 2
        text = f"{text[:half]}\n… {len(text) - _ERROR_BYTES} characters left out …\n{text[-half:]}"
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}\n"
