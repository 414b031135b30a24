"""Explanations, dry runs and answers to queries as lines of text and as JSON. Pure: writes nowhere, reads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flatpack_build.digest import Digest, Json
from flatpack_build.drawing.picture import Picture
from flatpack_build.dryrun import COUNTED, DryRun, PlannedAction
from flatpack_build.explain import INPUT, Change, Explanation, FileChange, ValueChange, Verdict
from flatpack_build.query import Needs, UsesOf
from flatpack_build.tree import TreeEntry
from flatpack_build.views import size_text, time_text

_LINES = 40
_FILES = 20
_VALUE = 100
_COLOURS: Mapping[str, str] = {
    "would run": "33;1", "may run": "33", "fails": "31;1", "cached": "36", "up to date": "32",
    "+": "32", "-": "31", "@": "36", "name": "1", "faint": "2",
}  # fmt: skip


class Style:
    """Paints words where somebody looks at them, and leaves them alone elsewhere."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, kind: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self._colour and kind in _COLOURS else text


# --- explanations


def explanations_text(explanations: Sequence[Explanation], others: int, style: Style) -> Iterator[str]:
    """Lines; ``others`` is how many more actions there are that stay as they are."""
    shown: dict[tuple[str, str, str], str] = {}
    for explanation in explanations:
        yield f"{style(explanation.action, 'name')}  {style(explanation.verdict, explanation.verdict)}"
        yield f"  {explanation.reason}"
        for change in explanation.changes:
            yield from ("  " + line for line in _change(change, explanation.action, shown, style))
        yield ""
    if not explanations:
        yield "up to date: nothing has changed"
    elif others:
        yield f"{others} other{'s' if others > 1 else ''} up to date"


def _change(change: Change, action: str, shown: dict[tuple[str, str, str], str], style: Style) -> Iterator[str]:
    if not change.part.startswith(INPUT):
        yield from _values(change, style)
        return
    by = f", made by {change.producer}" if change.producer else ""
    if change.how != "changed":
        yield f"{change.part}{by}: {change.how}"
    elif not change.files:
        yield f"{change.part}{by}: {_digest(change.before)} -> {_digest(change.after)}"
        yield "  which files differ is not known: the cache no longer has the earlier list"
    else:
        yield f"{change.part}{by}:"
    for file in change.files[:_FILES]:
        yield "  " + _file(file)
        again = file.path, _of(file.before), _of(file.after)
        if file.lines and again in shown:
            yield "    " + style(f"the difference is shown under {shown[again]}", "faint")
        elif file.lines:
            shown[again] = action
            yield from ("    " + line for line in _diff(file.lines, style))
    if len(change.files) > _FILES:
        yield f"  and {len(change.files) - _FILES} more files"


def _values(change: Change, style: Style) -> Iterator[str]:
    for value in change.values:
        name = f"{change.part}, {value.path}" if value.path else change.part
        if value.lines:
            yield f"{name}:"
            yield from ("  " + line for line in _diff(value.lines, style))
        elif value.how == "changed":
            yield f"{name}: {_value(value.before)} -> {_value(value.after)}"
        else:
            yield f"{name}: {value.how}: {_value(value.after if value.how == 'added' else value.before)}"


def _diff(lines: Sequence[str], style: Style) -> Iterator[str]:
    for line in lines[:_LINES]:
        yield style(line, line[:1])
    if len(lines) > _LINES:
        yield style(f"and {len(lines) - _LINES} more lines; all of them: --json", "faint")


def _file(file: FileChange) -> str:
    before, after = file.before, file.after
    if before is None or after is None:
        entry = before or after
        assert entry is not None
        return f"{file.how:<7}  {file.path}  ({size_text(entry.size)}, sha256 {entry.digest.short})"
    if before.digest == after.digest:
        return f"{file.how:<7}  {file.path}: {'may now' if after.kind == 'exec' else 'may no longer'} be executed"
    text = f"{file.how:<7}  {file.path}"
    if file.lines:
        return text
    return (
        f"{text}: sha256 {before.digest.short} ({size_text(before.size)}) -> "
        f"{after.digest.short} ({size_text(after.size)})"
    )


def _of(entry: TreeEntry | None) -> str:
    return "" if entry is None else entry.digest


def _digest(value: Json) -> str:
    return f"sha256 {Digest(str(value).partition(':')[2]).short}"


def _value(value: Json) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    text = text.replace("\n", "\\n")
    return text if len(text) <= _VALUE else f"{text[:_VALUE]}..."


def explanations_json(explanations: Sequence[Explanation]) -> str:
    return _dump([_explanation_json(explanation) for explanation in explanations])


def _explanation_json(explanation: Explanation) -> Json:
    return {
        "action": explanation.action,
        "state": explanation.verdict,
        "reason": explanation.reason,
        "since": explanation.since,
        "waits_for": explanation.waits_for,
        "key_before": explanation.key_before or None,
        "key_now": explanation.key_now or None,
        "changes": [
            {
                "part": change.part,
                "change": change.how,
                "before": change.before,
                "after": change.after,
                "made_by": change.producer or None,
                "values": [_value_json(value) for value in change.values],
                "files": [
                    {
                        "path": file.path,
                        "change": file.how,
                        "before": _entry_json(file.before),
                        "after": _entry_json(file.after),
                        "diff": file.lines,
                    }
                    for file in change.files
                ],
            }
            for change in explanation.changes
        ],
    }


def _value_json(value: ValueChange) -> Json:
    return {"path": value.path, "change": value.how, "before": value.before, "after": value.after, "diff": value.lines}


def _entry_json(entry: TreeEntry | None) -> Json:
    return None if entry is None else {"sha256": entry.digest, "size": entry.size, "kind": entry.kind}


# --- dry runs


def dry_run_text(plan: DryRun, style: Style) -> Iterator[str]:
    """What would run comes first and by name; what stays is counted."""
    for flatpack in plan.unlocked:
        yield f"{flatpack} has no flatpack.lock yet: a build would make it first, and what it runs is not known until then"
        yield f"  hint: flatpack lock {flatpack}"
    busy = [action for action in plan.actions if action.verdict != "up to date"]
    if busy:
        names = max(len(action.action) for action in busy)
        for action in busy:
            amounts = "" if action.verdict == "fails" else f"{_seconds(action):>11}  {_size(action):>9}"
            verdict = style(f"{action.verdict:<9}", action.verdict)
            yield f"  {verdict}  {action.action:<{names}}  {amounts:>22}  {style(action.reason, 'faint')}".rstrip()
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
        yield f"{words} {time_text(seconds)} of work, {size_text(size)} to be made{rest}, judged by past runs"


def _seconds(action: PlannedAction) -> str:
    if action.verdict == "cached":
        return "-"
    return "unknown" if action.estimate is None else f"~ {time_text(action.estimate.seconds)}"


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
    return _dump(value)


def _estimated_size(action: PlannedAction) -> int | None:
    return None if action.estimate is None else action.estimate.size


# --- graphs


def pictures_text(pictures: Sequence[Picture], style: Style) -> Iterator[str]:
    """One line for each action: its state, its name, what it needs."""
    for picture in pictures:
        yield style(picture.flatpack, "name")
        names = max((len(action.name) for action in picture.actions), default=0)
        for action in picture.actions:
            needs = f"  <- {', '.join(action.needs)}" if action.needs else ""
            yield f"  {style(f'{action.verdict:<10}', action.verdict)}  {action.name:<{names}}{needs}".rstrip()


# --- queries


def uses_text(answer: UsesOf, style: Style) -> Iterator[str]:
    for use in answer.uses:
        yield style(use.flatpack, "name")
        if use.decides:
            yield "  says what its actions are: a change may concern each of them"
        yield from _lines("read by", use.direct)
        yield from _lines("and so concerns", use.indirect)
        yield from _lines("boxes", use.boxes)
    if not answer.uses:
        yield f"nothing in the warehouse depends on {answer.file}"
    if answer.unlocked:
        yield f"not known, for want of a lock: {', '.join(answer.unlocked)}"


def uses_json(answer: UsesOf) -> str:
    uses: Json = [
        {
            "flatpack": use.flatpack,
            "decides_actions": use.decides,
            "direct": use.direct,
            "indirect": use.indirect,
            "boxes": use.boxes,
        }
        for use in answer.uses
    ]
    return _dump({"file": answer.file, "uses": uses, "not_locked": answer.unlocked})


def needs_text(answer: Needs, style: Style) -> Iterator[str]:
    yield style(f"{answer.name} depends on", "name")
    yield from _lines("actions", answer.actions)
    yield from _lines("files", [f"{file.path}  {size_text(file.size)}  sha256 {file.digest}" for file in answer.files])
    yield from _lines("decided by", answer.decided_by)
    sources: list[str] = []
    for source in answer.sources:
        sources.append(source.source)
        sources += [f"  {name} {value}" for name, value in source.identity.items()]
        sources += [f"  {path}  sha256 {digest}" for path, digest in source.files.items()]
    yield from _lines("sources", sources)
    yield from _lines("tools", [f"{tool} {version}" for tool, version in answer.tools.items()])


def needs_json(answer: Needs) -> str:
    files: Json = [{"path": file.path, "size": file.size, "sha256": file.digest} for file in answer.files]
    sources: Json = [
        {"source": source.source, "identity": source.identity, "files": source.files} for source in answer.sources
    ]
    return _dump(
        {
            "name": answer.name,
            "actions": answer.actions,
            "files": files,
            "decided_by": answer.decided_by,
            "sources": sources,
            "tools": answer.tools,
        }
    )


def _lines(title: str, items: Iterable[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield f"  {title if number == 0 else '':<15}  {item}"


def _dump(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
