"""Hardware profiles: read from ``targets/<name>.toml``, or detected for the machine one is on. Knows no flatpack."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from flatpack_build.errors import ManifestError, Place, PlanError
from flatpack_build.host import Host, look_at_host
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


def host_profile(host: Host | None = None) -> Profile:
    """The machine this runs on, as far as it can be told. Never raises: what is not known is left open."""
    host = host or look_at_host()
    plain_neon = "neon" in host.features and "dotprod" not in host.features
    memory_mb = host.memory // 1_000_000
    return Profile.model_validate(
        {
            "name": HOST,
            "description": f"This machine: {host.system} on {host.machine}",
            "architecture": host.architecture,
            "cpu_features": host.features,
            "cores": host.cores,
            "memory_mb": memory_mb,
            # The system, the agent and the index want their part too.
            "model_memory_mb": memory_mb * 3 // 4,
            "accelerator": host.accelerator,
            "device": {"cuda": "cuda", "metal": "mps"}.get(host.accelerator, "cpu"),
            "os": "macos" if host.system == "Darwin" else "linux",
            "glibc": host.glibc or None,
            "python": host.python,
            "gguf_quants": _GGUF_QUANTS_PLAIN_NEON if plain_neon else _GGUF_QUANTS,
            "service_manager": host.service_manager,
        }
    )
