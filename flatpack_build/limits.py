"""Sizes and ages as a person writes them, ``20GB`` and ``30d``, and the limits of a cache. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SIZE_UNITS = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_AGE_UNITS = {"min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_QUANTITY = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]+)", re.ASCII)

SIZE_WANTED = "a size such as 500MB, 20GB or 1.5TB"
AGE_WANTED = "an age such as 12h, 30d or 8w"


def parse_size(text: str) -> int:
    """Bytes: ``20GB`` is 20,000,000,000 and ``20GiB`` 21,474,836,480. Raises ``ValueError``."""
    match = _QUANTITY.fullmatch(text)
    unit = _SIZE_UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected {SIZE_WANTED}, got {text!r}")
    return int(float(match[1]) * unit)


def parse_age(text: str) -> float:
    """Seconds. ``m`` alone is refused: it could be minutes or months. Raises ``ValueError``."""
    match = _QUANTITY.fullmatch(text)
    unit = _AGE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected {AGE_WANTED}, got {text!r}")
    return float(match[1]) * unit


@dataclass(frozen=True)
class Limits:
    """How many bytes a cache may hold, and for how many seconds it keeps what nobody uses; ``None``: no limit."""

    max_size: int | None = None
    max_age: float | None = None

    def __bool__(self) -> bool:
        return self.max_size is not None or self.max_age is not None
