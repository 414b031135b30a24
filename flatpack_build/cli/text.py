"""How sizes are put on a terminal."""

from __future__ import annotations


def bytes_text(size: int) -> str:
    """A size for people: ``734.0 MB``."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError
