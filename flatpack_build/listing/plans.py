"""Dry runs and graphs as lines of text and as JSON. Pure: writes nowhere, reads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flatpack_build.digest import Json
from flatpack_build.drawing.picture import Picture
from flatpack_build.dryrun import COUNTED, DryRun, PlannedAction
from flatpack_build.explain import Verdict
from flatpack_build.listing.style import Style, dump, unlocked_text
from flatpack_build.views import size_text, time_text

_SHOWN = 0.1  # seconds: the least that is told from nothing


def dry_run_text(plan: DryRun, style: Style) -> Iterator[str]:
    """What would run comes first and by name; what stays is counted."""
    for flatpack in plan.unlocked:
        yield unlocked_text(flatpack)
    busy = [action for action in plan.actions if action.verdict != "up to date"]
    if busy:
        names = max(len(action.action) for action in busy)
        for action in busy:
            amounts = "" if action.verdict == "fails" else f"{_seconds(action):>11}  {_size(action):>9}"
            verdict = style(f"{action.verdict:<9}", action.verdict)
            reason, *more = action.reason.splitlines() or [""]
            yield f"  {verdict}  {action.action:<{names}}  {amounts:>22}  {style(reason, 'faint')}".rstrip()
            yield from (f"{'':13}{style(line, 'faint')}" for line in more)
        yield ""
    if plan.actions:
        yield _summary(plan)
        yield from _totals(plan)
    if plan.problem:
        yield "no box can be signed: " + plan.problem.replace("\n", "\n  ")


def _summary(plan: DryRun) -> str:
    words = {"would run": "would run", "may run": "may run", "fails": "cannot be built", "cached": "from the cache"}
    counted = [f"{count} {words.get(verdict, verdict)}" for verdict in COUNTED if (count := plan.count(verdict))]
    return ", ".join(counted) + "; nothing was run or written"


def _totals(plan: DryRun) -> Iterator[str]:
    verdicts: tuple[Verdict, ...] = ("would run",)
    for kinds, words in ((verdicts, "about"), (("would run", "may run"), "at most about")):
        count = sum(plan.count(verdict) for verdict in kinds)
        if not count or (words != "about" and not plan.count("may run")):
            continue
        seconds, size, unknown = plan.total(*kinds)
        if unknown == count:
            yield "how long that takes is unknown: nothing like it has run before"
            return
        rest = f", and {unknown} of unknown length" if unknown else ""
        if seconds < _SHOWN:
            words, seconds = ("less than" if words == "about" else "at most"), _SHOWN
        yield f"{words} {time_text(seconds)} of work, {size_text(size)} to be made{rest}, judged by past runs"


def _seconds(action: PlannedAction) -> str:
    if action.verdict == "cached":
        return "-"
    if action.estimate is None:
        return "unknown"
    seconds = action.estimate.seconds
    return f"< {time_text(_SHOWN)}" if seconds < _SHOWN else f"~ {time_text(seconds)}"


def _size(action: PlannedAction) -> str:
    if action.verdict == "cached":
        return size_text(action.size)
    return "unknown" if action.estimate is None else size_text(action.estimate.size)


def dry_run_json(plan: DryRun) -> str:
    seconds, size, unknown = plan.total("would run", "may run")
    value: Json = {
        "actions": [
            {
                "flatpack": action.flatpack,
                "action": action.action,
                "state": action.verdict,
                "reason": action.reason,
                "seconds": None if action.estimate is None else round(action.estimate.seconds, 4),
                "size": action.size if action.estimate is None and action.size else _estimated_size(action),
            }
            for action in plan.actions
        ],
        "counts": {verdict: plan.count(verdict) for verdict in COUNTED},
        "total": {"seconds": round(seconds, 4), "size": size, "unknown": unknown},
        "not_locked": plan.unlocked,
        "problem": plan.problem or None,
    }
    return dump(value)


def _estimated_size(action: PlannedAction) -> int | None:
    return None if action.estimate is None else action.estimate.size


def pictures_text(pictures: Sequence[Picture], style: Style) -> Iterator[str]:
    """One line for each action: its state, its name, what it needs."""
    for picture in pictures:
        yield style(picture.flatpack, "name")
        names = max((len(action.name) for action in picture.actions), default=0)
        for action in picture.actions:
            needs = f"  <- {', '.join(action.needs)}" if action.needs else ""
            yield f"  {style(f'{action.verdict:<10}', action.verdict)}  {action.name:<{names}}{needs}".rstrip()
