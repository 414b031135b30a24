"""What differs between two boxes: files, texts, facts about models. Judges no signature and prints nothing."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from flatpack_build.box.description import BoxDescription, BoxEntry, BoxModel, describe_open_box, read_files

MAX_TEXT = 64 * 1024
"""Bytes of a file that is compared line by line; larger ones only differ."""
MAX_TEXTS = 4 * 1024 * 1024
"""Bytes of one box that are kept for that."""


@dataclass(frozen=True)
class FileChange:
    """One path with another content, mode or kind. ``text`` is a unified diff, empty where there is none to show."""

    before: BoxEntry
    after: BoxEntry
    text: str

    @property
    def path(self) -> str:
        return self.after.path


@dataclass(frozen=True)
class FactChange:
    """A fact (about a model, or the box as a whole) that is not the same; ``None``: one of them does not have it."""

    about: str
    fact: str
    before: int | str | None
    after: int | str | None


@dataclass(frozen=True)
class Difference:
    """All sorted by path."""

    facts: tuple[FactChange, ...]
    added: tuple[BoxEntry, ...]
    removed: tuple[BoxEntry, ...]
    changed: tuple[FileChange, ...]

    def __bool__(self) -> bool:
        return bool(self.facts or self.added or self.removed or self.changed)


def compare_open_boxes(before: BinaryIO, after: BinaryIO) -> Difference:
    """Compare what is in two open boxes, signatures aside. Raises ``BoxError``."""
    old, new = describe_open_box(before), describe_open_box(after)
    old_entries = {entry.path: entry for entry in old.entries}
    new_entries = {entry.path: entry for entry in new.entries}
    changed = [
        (old_entries[path], new_entries[path])
        for path in sorted(old_entries.keys() & new_entries.keys())
        if not _same(old_entries[path], new_entries[path])
    ]
    wanted = _small_texts(changed)
    texts = [read_files(file, wanted) if wanted else {} for file in (before, after)]
    return Difference(
        tuple(_box_facts(old, new) + _model_facts(old, new)),
        tuple(new_entries[path] for path in sorted(new_entries.keys() - old_entries.keys())),
        tuple(old_entries[path] for path in sorted(old_entries.keys() - new_entries.keys())),
        tuple(FileChange(one, other, _unified(one.path, *texts)) for one, other in changed),
    )


def _same(one: BoxEntry, other: BoxEntry) -> bool:
    return (one.kind, one.mode, one.size, one.sha256) == (other.kind, other.mode, other.size, other.sha256)


def _small_texts(changed: list[tuple[BoxEntry, BoxEntry]]) -> Mapping[str, int]:
    wanted: dict[str, int] = {}
    total = 0
    for one, other in changed:
        size = max(one.size, other.size)
        total += size
        if one.kind == other.kind == "file" and one.sha256 != other.sha256 and size <= MAX_TEXT and total <= MAX_TEXTS:
            wanted[one.path] = size
    return wanted


def _unified(path: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    if path not in before or path not in after:
        return ""
    try:
        one, other = before[path].decode(), after[path].decode()
    except UnicodeDecodeError:
        return ""
    if "\0" in one + other:
        return ""
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), f"a/{path}", f"b/{path}", lineterm="")
    return "\n".join(lines)


def _box_facts(old: BoxDescription, new: BoxDescription) -> list[FactChange]:
    one, other = _about(old), _about(new)
    return [FactChange("", fact, one[fact], other[fact]) for fact in one if one[fact] != other[fact]]


def _about(box: BoxDescription) -> dict[str, str | None]:
    manifest = box.manifest
    return {
        "flatpack": manifest.flatpack if manifest else box.top or None,
        "version": manifest.version if manifest else None,
        "target": manifest.target if manifest else None,
    }


def _model_facts(old: BoxDescription, new: BoxDescription) -> list[FactChange]:
    found = []
    for one, other in _pairs(old, new):
        for fact in sorted(one.facts.keys() | other.facts.keys()):
            before, after = one.facts.get(fact), other.facts.get(fact)
            if before != after:
                found.append(FactChange(other.path, fact, before, after))
    return found


def _pairs(old: BoxDescription, new: BoxDescription) -> list[tuple[BoxModel, BoxModel]]:
    """Models at the same path; and where each box has one only, these two, whatever their names."""
    if len(old.models) == len(new.models) == 1:
        return [(old.models[0], new.models[0])]
    others = {model.path: model for model in new.models}
    return [(model, others[model.path]) for model in old.models if model.path in others]
