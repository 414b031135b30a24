"""What a manifest needs from elsewhere: its sources and wheels, as the lock must hold them. Pure; resolves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flatpack_build.manifest.model import Manifest
from flatpack_build.targets import Profile

# The default embedder: a static table of token vectors, small and fast enough for every board (docs/manifest.md, [docs]).
EMBEDDER_SOURCE = (
    "pypi:wordllama==0.4.0.post1#wordllama/weights/l2_supercat_256.safetensors,"
    "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
)
EMBEDDER_LICENSES = ("MIT", "Llama 2 Community License Agreement")
EMBEDDER_NOTE = "the package says MIT; its table of vectors derives from the token embeddings of Llama 2"


@dataclass(frozen=True, order=True)
class WheelsNeed:
    """Python packages for one kind of machine: ``platform`` as uv names it, ``python`` as ``3.11``."""

    platform: str
    python: str
    requirements: tuple[str, ...]


def is_remote(source: str) -> bool:
    """Whether the ``from_source`` of a ``[[file]]`` or ``[[dataset]]`` is fetched, rather than in the folder."""
    return source.startswith(("http://", "https://", "hf:", "pypi:", "git+", "oci:"))


def git_source(from_source: str, branch: str | None) -> str:
    """The source string of a ``[[git]]`` table."""
    url = from_source if from_source.startswith("git+") else f"git+{from_source}"
    return f"{url}@{branch or 'HEAD'}"


def wheels_need(manifest: Manifest, profile: Profile) -> WheelsNeed | None:
    """The wheels of a manifest that is resolved for one target."""
    python = manifest.packages.python if manifest.packages else None
    if not python:
        return None
    requirements = []
    for name, version in sorted(python.items()):
        if version in ("*", ""):
            requirements.append(name)
        elif version[0] in "<>=!~":
            requirements.append(f"{name}{version}")
        else:
            requirements.append(f"{name}=={version}")
    return WheelsNeed(
        profile.wheel_platform, manifest.environment.python_version or profile.python, tuple(requirements)
    )


def sources_of(manifest: Manifest) -> tuple[str, ...]:
    """The source strings of a manifest that is resolved for one target, each once."""
    found: list[str] = []
    if manifest.model:
        found.append(manifest.model.source)
        if manifest.model.signature:
            found.append(manifest.model.signature)
    found += [git_source(item.from_source, item.branch) for item in manifest.git]
    found += [item.from_source for item in manifest.file if is_remote(item.from_source)]
    found += [item.from_source for item in manifest.dataset if is_remote(item.from_source)]
    if manifest.docs and manifest.docs.files:
        found.append(EMBEDDER_SOURCE)
    return tuple(dict.fromkeys(found))


def all_needs(manifest: Manifest, profiles: Mapping[str, Profile]) -> tuple[tuple[str, ...], tuple[WheelsNeed, ...]]:
    """Sources and wheels of all targets in ``profiles``, each once, sorted."""
    sources: set[str] = set()
    wheels: set[WheelsNeed] = set()
    for target, profile in profiles.items():
        resolved = manifest.for_target(target)
        sources.update(sources_of(resolved))
        need = wheels_need(resolved, profile)
        if need:
            wheels.add(need)
    return tuple(sorted(sources)), tuple(sorted(wheels))
