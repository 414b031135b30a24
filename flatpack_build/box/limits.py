"""How much a box may ask of whoever reads it. Plain numbers; knows no archive and no disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader puts up with, checked while it streams. Sizes in bytes.

    The defaults leave room for any model there is; somebody who knows the boxes of one device can be stricter.
    """

    entries: int = 1_000_000
    """Files and folders in the archive."""
    names: int = 64 * _MIB
    """Characters of all their paths together: they compress well, and are kept in memory."""
    file_size: int = 1024 * 1024 * _MIB
    """One file."""
    total_size: int | None = None
    """The whole archive, decompressed. ``None``: when unpacking, what is free on the disk; when reading, no limit."""
    ratio: int = 1000
    """How many times larger than the compressed payload its content may be ..."""
    ratio_floor: int = 256 * _MIB
    """... once there is more of it than this: a few empty megabytes compress better, and do no harm."""
    window: int = 128 * _MIB
    """Memory that the compressed frame may ask for: the limit of the zstd command, too."""


DEFAULT_LIMITS: Final = Limits()
