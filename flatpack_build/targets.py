"""Hardware profiles: read from ``targets/<name>.toml``, or detected for the machine one is on. Knows no flatpack."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from flatpack_build.errors import ManifestError, Place, PlanError
from flatpack_build.manifest.document import read_document
from flatpack_build.manifest.explain import as_error, problems
from flatpack_build.manifest.model import HOST
from flatpack_build.manifest.profile import Profile
from flatpack_build.manifest.wording import did_you_mean

__all__ = ["HOST", "Profile", "host_profile", "load_profile", "load_profiles", "profile_names"]

_NAME = re.compile(r"[\w-]+")

_GGUF_QUANTS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_NL", "Q3_K_M", "Q2_K")
_GGUF_QUANTS_PLAIN_NEON = ("Q8_0", "Q6_K", "Q5_K_M", "IQ4_NL", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")
"""Without dotprod llama.cpp has a fast path for only one of the four-bit kinds."""

_FLAGS = {
    "asimd": "neon", "neon": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm", "sve": "sve",
    "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "avx512f": "avx512f", "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni", "amx_int8": "amx_int8",
}  # fmt: skip
"""What Linux calls a CPU feature -> what profiles call it."""


def profile_names(folders: Sequence[Path]) -> list[str]:
    """The names of all profiles, sorted, without reading one. A folder that does not exist has none."""
    return sorted({path.stem for folder in folders for path in folder.glob("*.toml")})


def load_profiles(folders: Sequence[Path]) -> Mapping[str, Profile]:
    """All profiles by name; a later folder wins over an earlier one. Raises ``ManifestError``."""
    return {name: load_profile(name, folders) for name in profile_names(folders)}


def load_profile(name: str, folders: Sequence[Path]) -> Profile:
    """The profile ``name``, from the last folder that has one; ``host`` is detected. Reads that one file only.

    Raises ``PlanError`` for an unknown name and ``ManifestError`` for a profile that is not valid.
    """
    files = [folder / f"{name}.toml" for folder in folders] if _NAME.fullmatch(name) else []
    file = next((file for file in reversed(files) if file.is_file()), None)
    if name == HOST:
        if file:
            raise ManifestError(
                f"the name {HOST!r} means the machine one is on, and cannot be given to a profile",
                place=Place(str(file)),
                hint="rename the file",
            )
        return host_profile()
    if not file:
        known = [*profile_names(folders), HOST]
        raise PlanError(
            f"there is no target {name!r}{did_you_mean(name, known)}",
            hint=f"known targets: {', '.join(known)}; a new one is a file {name}.toml in the project's targets folder",
        )
    return _read_profile(name, file)


def _read_profile(name: str, file: Path) -> Profile:
    document = read_document(file, what="profile")
    try:
        profile = Profile.model_validate({"name": name, **document.data})
    except ValidationError as error:
        raise as_error(problems(error, Profile, document)) from error
    if profile.name != name:
        raise ManifestError(
            f"the profile is called {profile.name!r}, but its file {file.name}",
            place=document.value_place(("name",)),
            hint="take the name out of the file: the file's name counts",
        )
    return profile


def host_profile() -> Profile:
    """The machine this runs on, as far as it can be told. Never raises: what is not known is left open."""
    macos = sys.platform == "darwin"
    machine = platform.machine().lower()
    features = _cpu_features()
    if macos and machine == "arm64":
        features = ("neon", "fp16", "dotprod")
    architecture = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}.get(machine, "")
    if architecture == "arm64" and not macos:
        architecture = "aarch64"
    libc, version = platform.libc_ver()
    glibc = re.match(r"\d+\.\d+", version) if libc == "glibc" else None
    accelerator = _accelerator(macos=macos, machine=machine)
    plain_neon = "neon" in features and "dotprod" not in features
    memory_mb = _memory() // 1_000_000
    return Profile.model_validate(
        {
            "name": HOST,
            "description": f"This machine: {platform.system()} on {platform.machine()}",
            "architecture": architecture,
            "cpu_features": features,
            "cores": os.cpu_count() or 0,
            "memory_mb": memory_mb,
            # The system, the agent and the index want their part too.
            "model_memory_mb": memory_mb * 3 // 4,
            "accelerator": accelerator,
            "device": {"cuda": "cuda", "metal": "mps"}.get(accelerator, "cpu"),
            "os": "macos" if macos else "linux",
            "glibc": glibc.group() if glibc else None,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "gguf_quants": _GGUF_QUANTS_PLAIN_NEON if plain_neon else _GGUF_QUANTS,
            "service_manager": _service_manager(macos=macos),
        }
    )


def _cpu_features() -> tuple[str, ...]:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return tuple(sorted({_FLAGS[flag] for flag in value.split() if flag in _FLAGS}))
    return ()


def _memory() -> int:
    """Bytes of memory that this process may use at most; 0: not known."""
    import psutil  # a native library that nothing else here needs

    with contextlib.suppress(OSError, RuntimeError, psutil.Error):
        total = int(psutil.virtual_memory().total)
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))  # "max" is no number: no limit
        return total
    return 0


def _accelerator(*, macos: bool, machine: str) -> str:
    if macos:
        return "metal" if machine == "arm64" else "none"
    driver = any(os.path.exists(path) for path in ("/proc/driver/nvidia/version", "/etc/nv_tegra_release"))
    return "cuda" if driver else "none"


def _service_manager(*, macos: bool) -> str:
    if macos:
        return "launchd"
    return "systemd" if os.path.isdir("/run/systemd/system") else "none"
