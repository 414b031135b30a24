"""The machine one is on, as far as it can be told: what the target ``host`` is made from. Knows no profile and no plan.

A kept plan is compared with it, so it imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

_FLAGS = {
    "asimd": "neon", "neon": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm", "sve": "sve",
    "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "avx512f": "avx512f", "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni", "amx_int8": "amx_int8",
}  # fmt: skip
"""What Linux calls a CPU feature -> what profiles call it."""


@dataclass(frozen=True)
class Host:
    """Words are those of profiles; what is not known is empty or 0. ``memory`` is in bytes, ``python`` a minor version."""

    system: str
    machine: str
    architecture: str
    features: tuple[str, ...]
    cores: int
    memory: int
    accelerator: str
    glibc: str
    python: str
    service_manager: str


def look_at_host(root: Path = Path("/")) -> Host:
    """Never raises. What the system says of itself in files is looked for below ``root``."""
    import platform  # only where a plan is made for this machine

    macos = sys.platform == "darwin"
    machine = platform.machine().lower()
    architecture = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}.get(machine, "")
    if architecture == "arm64" and not macos:
        architecture = "aarch64"
    libc, version = platform.libc_ver()
    glibc = re.match(r"\d+\.\d+", version) if libc == "glibc" else None
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        architecture=architecture,
        features=("neon", "fp16", "dotprod") if macos and machine == "arm64" else _cpu_features(root),
        cores=os.cpu_count() or 0,
        memory=_memory(root),
        accelerator=_accelerator(root, macos=macos, machine=machine),
        glibc=glibc.group() if glibc else "",
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        service_manager=_service_manager(root, macos=macos),
    )


def _cpu_features(root: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError, ValueError), open(root / "proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:  # all cores say the same, and there may be hundreds
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return tuple(sorted({_FLAGS[flag] for flag in value.split() if flag in _FLAGS}))
    return ()


def _memory(root: Path) -> int:
    """Bytes of memory that this process may use at most."""
    with contextlib.suppress(OSError, ValueError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int((root / "sys/fs/cgroup/memory.max").read_text()))  # "max" is no number: no limit
        return total
    return 0


def _accelerator(root: Path, *, macos: bool, machine: str) -> str:
    if macos:
        return "metal" if machine == "arm64" else "none"
    driver = any((root / path).exists() for path in ("proc/driver/nvidia/version", "etc/nv_tegra_release"))
    return "cuda" if driver else "none"


def _service_manager(root: Path, *, macos: bool) -> str:
    if macos:
        return "launchd"
    return "systemd" if (root / "run/systemd/system").is_dir() else "none"
