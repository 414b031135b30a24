"""How many cores and how much memory this process may use. Knows nothing of what they are used for."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000
_RESERVE = 0.1
"""The part of the machine's memory that is left to everything else."""


@dataclass(frozen=True)
class Capacity:
    """What there is: cores, and memory in bytes."""

    cores: int
    memory: int


def machine(*, cores: int = 0, memory_mb: int = 0, groups: Path = Path("/")) -> Capacity:
    """What this process may use: of the machine, and of its control group where it has one (in a container).

    ``cores`` and ``memory_mb`` win where they are not 0. Control groups are looked for below ``groups``.
    """
    limits = _group_limits(groups)
    return Capacity(cores or _cores(limits), memory_mb * MB or int(_memory(limits) * (1 - _RESERVE)))


def _cores(limits: Capacity | None) -> int:
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(found, limits.cores) if limits and limits.cores else found)


def _memory(limits: Capacity | None) -> int:
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(found, limits.memory) if limits and limits.memory else found


def _group_limits(root: Path) -> Capacity | None:
    """The tightest limits on the way from this process's control group to the top; 0: none. ``None``: no groups."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    cores: list[int] = []
    memory: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        wanted = controllers.split(",") if controllers else ["cpu", "memory"]
        for controller in {"cpu", "memory"}.intersection(wanted):
            top = root / "sys/fs/cgroup" / (controllers and controller)
            # Inside a container the path may be one of the machine outside: then the top is the container's own group.
            for folder in {top, top / path.lstrip("/"), *(top / path.lstrip("/")).parents}:
                if not folder.is_relative_to(top):
                    continue
                if controller == "cpu":
                    quota, period = _cpu_quota(folder)
                    if quota > 0 and period > 0:
                        cores.append(max(1, math.ceil(quota / period)))
                else:
                    memory += [
                        size
                        for name in ("memory.max", "memory.limit_in_bytes")
                        for size in _numbers(folder / name)[:1]
                        if size > 0
                    ]
    return Capacity(min(cores, default=0), min(memory, default=0))


def _cpu_quota(folder: Path) -> tuple[int, int]:
    """Microseconds of all cores together in a period, and the period; zeros where there is no limit."""
    found = _numbers(folder / "cpu.max") or [
        *_numbers(folder / "cpu.cfs_quota_us"),
        *_numbers(folder / "cpu.cfs_period_us"),
    ]
    return (found[0], found[1]) if len(found) == 2 else (0, 0)


def _numbers(file: Path) -> list[int]:
    try:
        return [int(word) for word in file.read_text().split()]
    except (OSError, ValueError):  # "max": no limit
        return []
