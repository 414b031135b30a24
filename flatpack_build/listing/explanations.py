"""Explanations as lines of text and as JSON. Pure: writes nowhere, reads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from flatpack_build.digest import Digest, Json
from flatpack_build.explain import INPUT, Change, Explanation, FileChange, ValueChange
from flatpack_build.explained import Explained
from flatpack_build.listing.style import Style, dump, unlocked_text
from flatpack_build.tree import TreeEntry
from flatpack_build.views import size_text

_LINES = 40
_FILES = 20
_VALUE = 100


def explanations_text(explained: Explained, style: Style) -> Iterator[str]:
    """Lines. What has the same reason is listed above it; what stays as it is, is counted."""
    for flatpack in explained.unlocked:
        yield unlocked_text(flatpack)
    alike: dict[tuple[str, ...], list[Explanation]] = {}
    for explanation in explained.explanations:
        # One with changes is only like itself.
        key = explanation.verdict, explanation.reason, explanation.action if explanation.changes else ""
        alike.setdefault(key, []).append(explanation)
    shown: dict[tuple[str, str, str], str] = {}
    for group in alike.values():
        width = max(len(explanation.action) for explanation in group)
        for explanation in group:
            space = " " * (width - len(explanation.action))
            yield f"{style(explanation.action, 'name')}{space}  {style(explanation.verdict, explanation.verdict)}"
        yield f"  {group[0].reason}"
        for change in group[0].changes:
            yield from ("  " + line for line in _change(change, group[0].action, shown, style))
        yield ""
    others = explained.others
    if others and explained.explanations:
        yield f"{others} other{'s' if others > 1 else ''} up to date"
    elif others:
        yield "up to date: nothing has changed"
    elif not explained.explanations and not explained.unlocked:
        yield "there are no flatpacks"


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
    mode = f"{'may now' if after.kind == 'exec' else 'may no longer'} be executed" if before.kind != after.kind else ""
    if file.how == "renamed":
        return f"renamed  {before.path} -> {file.path}{mode and f', and {mode}'}"
    if before.digest == after.digest:
        return f"{file.how:<7}  {file.path}: {mode}"
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
    return dump([_explanation_json(explanation) for explanation in explanations])


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
                        "renamed_from": file.before.path if file.before and file.how == "renamed" else None,
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
