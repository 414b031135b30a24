"""Python wheels for another platform than this machine's: chosen by uv, downloaded by pip, held to their digests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.fetching import pip, uv
from flatpack_build.fetching.stream import check_files
from flatpack_build.manifest.lock import LockedWheel, LockedWheels
from flatpack_build.params import FetchParams

PREFIX = "wheels:"
# What uv takes a bare `…-unknown-linux-gnu` and `…-apple-darwin` for.
_LINUX_GLIBC = (2, 28)
_MACOS = (13, 0)
_ALIASES = {"linux": "x86_64-unknown-linux-gnu", "macos": "aarch64-apple-darwin"}
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}


@dataclass(frozen=True)
class ResolvedWheels:
    """``folder`` holds exactly the wheels of ``locked``."""

    locked: LockedWheels
    folder: Path


def platform_tags(platform: str) -> tuple[str, ...]:
    """The platform tags of the wheels that run on ``platform`` (uv's name for it), the best first.

    ``aarch64-manylinux_2_31`` -> ``manylinux_2_31_aarch64``, ``manylinux_2_30_aarch64``, …, ``linux_aarch64``.
    Raises ``SourceError`` for a platform that is not known here.
    """
    name = _ALIASES.get(platform, platform)
    if match := re.fullmatch(r"(x86_64|aarch64)-(?:manylinux_2_(\d{1,3})|(manylinux2014)|unknown-linux-gnu)", name):
        minor = int(match[2] or (17 if match[3] else _LINUX_GLIBC[1]))
        oldest = 5 if match[1] == "x86_64" else 17
        tags = []
        for glibc in range(minor, oldest - 1, -1):
            tags.append(f"manylinux_2_{glibc}_{match[1]}")
            if (2, glibc) in _LEGACY:
                tags.append(f"{_LEGACY[2, glibc]}_{match[1]}")
        return (*tags, f"linux_{match[1]}")
    if match := re.fullmatch(r"(x86_64|aarch64)-(?:unknown-linux-musl|musllinux_1_(\d{1,3}))", name):
        return tuple(f"musllinux_1_{minor}_{match[1]}" for minor in range(int(match[2] or 2), -1, -1))
    if match := re.fullmatch(r"(x86_64|aarch64)-apple-darwin", name):
        from packaging.tags import mac_platforms  # 30 ms

        return tuple(mac_platforms(_MACOS, "arm64" if match[1] == "aarch64" else "x86_64"))
    raise SourceError(
        f"no wheels can be chosen for the platform {platform!r}",
        hint="use uv's names, for example aarch64-manylinux_2_31, x86_64-manylinux_2_28, aarch64-apple-darwin",
    )


def _options(tags: Sequence[str], python: str) -> list[str]:
    if not re.fullmatch(r"3\.\d+", python):
        raise SourceError(f"{python!r} is no Python version for wheels", hint="write it like 3.11")
    platforms = [option for tag in tags for option in ("--platform", tag)]
    return [*platforms, "--python-version", python, "--implementation", "cp"]


def _parse(filename: str) -> tuple[str, str]:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename  # 30 ms

    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise SourceError(f"{filename!r} is no wheel's name: {error}") from error
    return str(name), str(version)


def _check_requirement(text: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement  # 30 ms

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        hint = "expected a name with or without versions, for example numpy>=2"
        raise SourceError(f"{text!r} is no requirement: {str(error).splitlines()[0]}", hint=hint) from error
    if requirement.url:
        raise SourceError(f"{text!r} names an address", hint="name a release of a package index, such as numpy>=2")


def resolve_wheels(platform: str, python: str, requirements: Sequence[str], work: Path) -> ResolvedWheels:
    """Choose and download what ``requirements`` come to on ``platform`` (uv's name) with ``python`` (``3.11``).

    Works in ``work``, an empty folder. Raises ``SourceError``.
    """
    wanted = tuple(sorted(requirements))
    for requirement in wanted:
        _check_requirement(requirement)
    what = f"wheels for {platform}, Python {python}"
    tags = platform_tags(platform)
    options = _options(tags, python)
    work.mkdir(parents=True, exist_ok=True)
    pins = uv.compile_pins(platform, python, wanted, work) if wanted else []
    folder = work / "wheels"
    if pins:
        found = pip.download(what, [pin.line for pin in pins], folder, options)
    else:
        folder.mkdir()
        found = []
    wheels = tuple(LockedWheel(*_parse(path.name), path.name, Digest.of_file(path)) for path in found)
    if len(wheels) != len(pins):
        raise SourceError(f"{what}: pip brought {len(wheels)} wheels for {len(pins)} releases")
    return ResolvedWheels(LockedWheels(platform, python, wanted, wheels), folder)


def fetch(params: FetchParams, out: Path, work: Path) -> None:
    """Download exactly the wheels in ``params.files``. Raises ``SourceError``, ``VerificationError``."""
    platform = params.source.removeprefix(PREFIX)
    what = f"wheels for {platform}"
    lines = []
    for filename, sha256 in sorted(params.files.items()):
        name, version = _parse(filename)
        lines.append(f"{name}=={version} --hash=sha256:{sha256}")
    if not lines:
        return
    got: dict[str, str] = {}
    for path in pip.download(
        what, lines, work / "wheels", _options(platform_tags(platform), params.identity["python"])
    ):
        got[path.name] = Digest.of_file(path)
        path.rename(out / path.name)
    if set(got) != set(params.files):
        odd = sorted(set(got) ^ set(params.files))[0]
        raise VerificationError(f"{what}: {odd} is not as it was locked", hint="run: flatpack lock <name>")
    check_files(what, params.files, got)
