"""What differs between two walks over the parts of an action's key, and between two trees and two texts. Pure.

It compares what ``fingerprint.walk`` gave then and gives now, so it cannot disagree with the key. It is handed all that
it compares and knows no store, no graph and no terminal.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flatpack_build.digest import Digest, Json
from flatpack_build.tree import Tree, TreeEntry

Parts: TypeAlias = Sequence[tuple[str, Json]]
How: TypeAlias = Literal["changed", "added", "removed", "renamed"]
Verdict: TypeAlias = Literal["up to date", "cached", "would run", "may run", "fails"]
"""What a build would do with an action.

``cached``: its result is taken from the cache, to put a box in place or because another action of the build makes it.
``may run``: it runs unless what it waits for comes out as before. ``fails``: it cannot be built as things stand.
"""

SMALL_TEXT = 128 * 1024
"""Bytes up to which a text is worth a diff."""
INPUT = "input "


@dataclass(frozen=True)
class ValueChange:
    """One value inside a parameter. ``path`` says where (``model.quant``), empty: the whole. ``lines`` is the diff of a
    text of several lines; else empty."""

    path: str
    how: How
    before: Json = None
    after: Json = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileChange:
    """One file of an input. ``before`` and ``after`` are what the trees say of it, ``lines`` the diff of a small text.

    Of a file that is ``renamed``, ``path`` is the new one; it may have become executable, or ceased to be."""

    path: str
    how: How
    before: TreeEntry | None
    after: TreeEntry | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One part of the key that differs, by its name in the walk (``parameter quant``, ``input docs``).

    ``values`` say what differs inside a parameter. For an input: ``files`` what differs inside it (empty when the earlier
    list of files is gone), and ``producer`` the action that makes it (empty: it is the user's)."""

    part: str
    how: How
    before: Json = None
    after: Json = None
    values: tuple[ValueChange, ...] = ()
    files: tuple[FileChange, ...] = ()
    producer: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why an action would run, or would not. ``since`` names the action since whose last build the changes are counted;
    ``waits_for`` the actions that have to run before its key is known."""

    action: str
    verdict: Verdict
    reason: str
    since: str
    changes: tuple[Change, ...] = ()
    waits_for: tuple[str, ...] = ()
    key_before: str = ""
    key_now: str = ""


def compare(before: Parts, after: Parts, *, unknown: Collection[str] = ()) -> tuple[Change, ...]:
    """The parts that differ, in the order of the walk. Inputs named in ``unknown`` are not known yet and left out."""
    old, new = dict(before), dict(after)
    skipped = {INPUT + name for name in unknown}
    found = []
    for part in [*new, *(name for name in old if name not in new)]:
        if part in skipped:
            continue
        how = _how(part, old, new)
        if how is not None:
            values = () if part.startswith(INPUT) else tuple(_value_changes("", old.get(part), new.get(part), how))
            found.append(Change(part, how, old.get(part), new.get(part), values))
    return tuple(found)


def _how(name: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> How | None:
    if name not in old:
        return "added"
    if name not in new:
        return "removed"
    # A key goes through JSON, which knows no tuples: what was kept comes back with lists.
    return "changed" if _plain(old[name]) != _plain(new[name]) else None


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _opened(value: Json) -> Json:
    """A table that travels as text (the manifest in a box) as the table that it is."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            opened: Json = json.loads(value)
        except ValueError:
            return value
        return opened
    return _plain(value)


def _value_changes(path: str, before: Json, after: Json, how: How) -> Iterator[ValueChange]:
    old, new = _opened(before), _opened(after)
    if how == "changed" and isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            inner = _how(key, old, new)
            if inner is not None:
                yield from _value_changes(f"{path}.{key}" if path else key, old.get(key), new.get(key), inner)
    elif how == "changed" and isinstance(old, list) and isinstance(new, list):
        gone = [item for item in old if item not in new]
        came = [item for item in new if item not in old]
        if len(gone) == len(came) == 1 and isinstance(gone[0], Mapping) and isinstance(came[0], Mapping):
            yield from _value_changes(f"{path}[{new.index(came[0])}]", gone[0], came[0], how)  # one table was edited
            return
        if not gone and not came:  # only their order, or how often
            yield ValueChange(path, how, old, new)
        yield from (ValueChange(path, "removed", item) for item in gone)
        yield from (ValueChange(path, "added", None, item) for item in came)
    else:
        texts = isinstance(old, str) and isinstance(new, str) and "\n" in old + new
        lines = text_diff(str(old).encode(), str(new).encode()) if texts else ()
        yield ValueChange(path, how, old, new, lines)


def tree_changes(before: Tree, after: Tree) -> tuple[FileChange, ...]:
    """The files that differ, sorted by path. One that has gone and one that has come with the same bytes are one."""
    old = {entry.path: entry for entry in before.entries}
    new = {entry.path: entry for entry in after.entries}
    gone: dict[Digest, list[TreeEntry]] = {}
    for path in sorted(old.keys() - new.keys(), reverse=True):
        if old[path].size:  # all empty files are alike
            gone.setdefault(old[path].digest, []).append(old[path])
    come = sorted(new.keys() - old.keys())
    renamed = {path: gone[new[path].digest].pop() for path in come if gone.get(new[path].digest)}
    moved = {entry.path for entry in renamed.values()}
    found = []
    for path in sorted({*old, *new} - moved):
        first, second = old.get(path), new.get(path)
        if path in renamed:
            found.append(FileChange(path, "renamed", renamed[path], second))
        elif first is None:
            found.append(FileChange(path, "added", None, second))
        elif second is None:
            found.append(FileChange(path, "removed", first, None))
        elif first != second:
            found.append(FileChange(path, "changed", first, second))
    return tuple(found)


def text_diff(before: bytes, after: bytes) -> tuple[str, ...]:
    """The unified diff of two small texts without its heading; empty for what is large or no text."""
    if max(len(before), len(after)) > SMALL_TEXT or b"\0" in before or b"\0" in after:
        return ()
    try:
        old, new = _lines(before.decode()), _lines(after.decode())
    except UnicodeDecodeError:
        return ()
    return tuple(difflib.unified_diff(old, new, lineterm=""))[2:]


def _lines(text: str) -> list[str]:
    lines = [_printable(line) for line in text.split("\n")]
    if lines[-1]:
        lines[-1] += "  (no newline at the end)"
    else:
        lines.pop()
    return lines


def _printable(line: str) -> str:
    """Control characters as pictures of them: a document must not steer the terminal it is shown on."""
    return "".join(
        chr(0x2400 + ord(character)) if character < " " and character != "\t" else
        "\N{REPLACEMENT CHARACTER}" if "\x7f" <= character < "\xa0" else character
        for character in line
    )  # fmt: skip
