"""Path patterns of a flatpack.toml: ``*`` and ``?`` stay inside a folder, ``**`` spans folders. Pure text, no files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


def is_pattern(text: str) -> bool:
    """Whether ``text`` has a sign that stands for other characters; else it is a path."""
    return any(sign in text for sign in "*?[")


def matches(path: str, pattern: str) -> bool:
    """Whether ``path`` (relative, with ``/``) fits the whole of ``pattern``."""
    return _compiled(pattern).fullmatch(path) is not None


def covers(pattern: str, path: str) -> bool:
    """Whether ``path`` fits ``pattern`` or lies in a folder that does."""
    names = path.rstrip("/").split("/")
    compiled = _compiled(pattern)
    return any(compiled.fullmatch("/".join(names[:count])) for count in range(1, len(names) + 1))


def select(paths: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The paths that any of the patterns means, sorted: a folder named outright means all that is in it."""
    wanted = tuple(patterns)
    return tuple(
        sorted(
            path
            for path in paths
            if any(matches(path, item) if is_pattern(item) else covers(item, path) for item in wanted)
        )
    )


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    *folders, last = pattern.removeprefix("./").rstrip("/").split("/")
    text = "".join("(?:[^/]+/)*" if part == "**" else _segment(part) + "/" for part in folders)
    if last == "**":
        text = text.removesuffix("/") + "(?:/.*)?" if text.endswith("/") and folders[-1] != "**" else text + ".*"
    else:
        text += _segment(last)
    return re.compile(text, re.DOTALL)


def _segment(part: str) -> str:
    out, at = [], 0
    while at < len(part):
        end = part.find("]", at + 2) if part[at] == "[" else -1
        if part[at] == "*":
            out.append("[^/]*")
        elif part[at] == "?":
            out.append("[^/]")
        elif end > 0:
            out.append(_class(part[at + 1 : end]))
            at = end
        else:
            out.append(re.escape(part[at]))
        at += 1
    return "".join(out)


def _class(inside: str) -> str:
    """``[abc]``, ``[a-c]``, ``[!abc]``. A range that runs backwards holds nothing, as in a shell."""
    negated = inside[0] in "!^"
    inside = inside[negated:]
    members, at = "", 0
    while at < len(inside):
        first, last = inside[at], inside[at]
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            last = inside[at + 2]
            at += 2
        if first <= last:
            members += re.escape(first) if first == last else f"{re.escape(first)}-{re.escape(last)}"
        at += 1
    if negated:
        return f"[^/{members}]"
    return f"(?!/)[{members}]" if members else "(?!)"
