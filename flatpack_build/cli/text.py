"""How texts that somebody else wrote, and sizes, are put on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` without what a terminal would obey: control characters, and those that turn the direction of writing."""
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode()


def bytes_text(size: int) -> str:
    """A size for people: ``734.0 MB``."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError
