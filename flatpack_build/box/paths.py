"""Which paths may stand in a box. Pure text: knows no file, no archive, and raises nothing; its callers do."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PART = 255
"""Bytes in one part of a path: what ext4, apfs and ntfs all take."""
MAX_PATH = 1024
"""Bytes in a whole path: what macOS takes; Linux takes more."""
MAX_DEPTH = 100
"""Parts of a path: what walks a tree keeps a file open for each."""

_SHOWN = 160
_DECEPTIVE = re.compile("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Line and paragraph ends, and what turns the direction of writing: a name that does not look like what it is."""


def path_problem(path: str) -> str:
    """Why ``path`` may not stand in a box, as the rest of a sentence about it. Empty: it may.

    A good path is relative, stays below its folder, is spelled in one way only and can be written on Linux and macOS.
    """
    try:
        data = path.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    parts = path.split("/")
    if len(data) > MAX_PATH or any(len(part.encode()) > MAX_PART for part in parts):
        return f"is too long ({MAX_PART} bytes a part, {MAX_PATH} in all)"
    if len(parts) > MAX_DEPTH:
        return f"is too deep ({MAX_DEPTH} parts)"
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "leaves the folder"
    if "" in parts or "." in parts:
        return "has an empty part or a '.' in it"
    if "\\" in path:
        return "has a backslash in it"
    if "\0" in path:
        return "has a zero byte in it"
    if any(unicodedata.category(character) == "Cc" for character in path):
        return "has a control character in it"
    if _DECEPTIVE.search(path):
        return "has a character in it that ends a line or turns the direction of writing"
    return ""


def shown(path: str) -> str:
    """``path`` for a message: in quotes, on one line, and not too long."""
    return repr(path) if len(path) <= _SHOWN else f"{path[:_SHOWN]!r}..."


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two paths that cannot both be written on every system, and why, as the rest of a sentence about them."""

    first: str
    second: str
    reason: str

    def __str__(self) -> str:
        return f"the paths {shown(self.first)} and {shown(self.second)} {self.reason}"


def find_conflict(files: Iterable[str], folders: Iterable[str] = ()) -> Conflict | None:
    """Two paths that exclude each other: the same one twice, one a file where the other needs a folder, or two that
    are one on a system that does not tell case or Unicode forms apart (macOS). The paths have no ``path_problem``.

    Takes memory for the paths only, however deep they are.
    """
    # Sorted like this, all that is below a folder stands together, so that any two that exclude each other have
    # neighbours between them that do.
    known = sorted((fold(path).replace("/", "\0"), path, is_file) for path, is_file in _all(files, folders))
    for (folded, path, is_file), (next_folded, next_path, next_is_file) in itertools.pairwise(known):
        parts, next_parts = path.split("/"), next_path.split("/")
        common = zip(folded.split("\0"), next_folded.split("\0"), strict=False)
        for depth, (part, next_part) in enumerate(common):
            if part != next_part:
                break
            if parts[depth] != next_parts[depth]:
                return Conflict(path, next_path, _difference(parts[depth], next_parts[depth]))
            ends = is_file and depth == len(parts) - 1
            next_ends = next_is_file and depth == len(next_parts) - 1
            if ends and next_ends:
                return Conflict(path, next_path, "are the same path")
            if ends or next_ends:
                return Conflict(path, next_path, "need one name for both a file and a folder")
    return None


def _all(files: Iterable[str], folders: Iterable[str]) -> Iterable[tuple[str, bool]]:
    yield from ((path, True) for path in files)
    yield from ((path, False) for path in folders)


def _difference(part: str, other: str) -> str:
    if unicodedata.normalize("NFD", part) == unicodedata.normalize("NFD", other):
        return "differ only in Unicode form"
    return "differ only in case"


def fold(path: str) -> str:
    """One spelling for all that a system without case or Unicode forms takes for one name."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
