"""Path patterns of a flatpack.toml: ``*`` and ``?`` stay inside a folder, ``**`` crosses folders. Pure text, no files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    text = pattern.removeprefix("./")
    out, at = [], 0
    while at < len(text):
        if text.startswith("**/", at):
            out.append("(?:[^/]+/)*")
            at += 3
        elif text.startswith("**", at):
            out.append(".*")
            at += 2
        elif text[at] == "*":
            out.append("[^/]*")
            at += 1
        elif text[at] == "?":
            out.append("[^/]")
            at += 1
        elif text[at] == "[" and "]" in text[at + 2 :]:
            end = text.index("]", at + 2)
            inside = text[at + 1 : end].replace("\\", "\\\\")
            out.append(f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]")
            at = end + 1
        else:
            out.append(re.escape(text[at]))
            at += 1
    # A pattern that names a folder means all that is in it.
    return re.compile("".join(out).rstrip("/") + r"(?:/.*)?\Z")


def matches(path: str, pattern: str) -> bool:
    """Whether ``path`` (relative, with ``/``) is matched by ``pattern``, or lies in a folder that is."""
    return _compiled(pattern).match(path) is not None


def select(paths: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The paths that any of the patterns matches, sorted."""
    wanted = tuple(patterns)
    return tuple(sorted(path for path in paths if any(matches(path, pattern) for pattern in wanted)))
