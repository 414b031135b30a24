"""Which paths may stand in a box. Pure text: knows no file, no archive, and raises nothing; its callers do."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PART = 255
"""Bytes in one part of a path: what ext4, apfs and ntfs all take."""
MAX_PATH = 1024
"""Bytes in a whole path: what macOS takes; Linux takes more."""


def path_problem(path: str) -> str:
    """Why ``path`` may not stand in a box, as the rest of a sentence about it. Empty: it may.

    A good path is relative, stays below its folder, is spelled in one way only and can be written on every system.
    """
    try:
        data = path.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    parts = path.split("/")
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leaves the folder"
    if "" in parts or "." in parts:
        return "has an empty part or a '.' in it"
    if "\\" in path:
        return "has a backslash in it"
    if any(unicodedata.category(character) == "Cc" for character in path):
        return "has a control character in it"
    if len(data) > MAX_PATH or any(len(part.encode()) > MAX_PART for part in parts):
        return f"is too long ({MAX_PART} bytes a part, {MAX_PATH} in all)"
    return ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two paths that cannot both be written on every system, and why, as the rest of a sentence about them."""

    first: str
    second: str
    reason: str


def find_conflict(files: Iterable[str], folders: Iterable[str] = ()) -> Conflict | None:
    """The first two paths that exclude each other: the same one twice, one a file where the other needs a folder, or
    two that are one on a system that does not tell case or Unicode forms apart (macOS, Windows)."""
    # folded path -> its spelling, whether it is a file, and the path that brought it
    known: dict[str, tuple[str, bool, str]] = {}
    for path, is_file in [*((path, True) for path in files), *((path, False) for path in folders)]:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            spelling = "/".join(parts[:depth])
            leaf_file = is_file and depth == len(parts)
            folded = fold(spelling)
            if folded not in known:
                known[folded] = (spelling, leaf_file, path)
                continue
            other, other_is_file, origin = known[folded]
            if other != spelling:
                return Conflict(origin, path, "differ only in case or Unicode form")
            if leaf_file and other_is_file:
                return Conflict(origin, path, "are the same path")
            if leaf_file or other_is_file:
                return Conflict(origin, path, "need one name for both a file and a folder")
    return None


def fold(path: str) -> str:
    """One spelling for all that a system without case or Unicode forms takes for one name."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
