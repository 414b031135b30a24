"""Which of the boxes that lie here is the newest of a flatpack for this machine. Trusts none of them, unpacks nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.version import Version

from flatpack_build.box.container import SUFFIX
from flatpack_build.box.contents import find_payload_manifest
from flatpack_build.errors import BoxError, PlanError
from flatpack_build.host import HOST
from flatpack_build.targets import Profile, load_profile

ANY: Final = "any"
"""The target of boxes that are for no hardware in particular."""
_ENOUGH = 0.8  # of the memory that a profile names: systems keep some to themselves


@dataclass(frozen=True)
class LocalBox:
    """A box and what it says of itself; whether that is true is for its signature to say."""

    path: Path
    version: str
    target: str


def boxes_of(flatpack: str, folders: Iterable[Path]) -> list[LocalBox]:
    """The boxes of a flatpack that lie in these folders (not below them), by their manifests.

    Looked into is what is named as builds name boxes, and as the original does: ``NAME-….fpk``, ``NAME.fpk``. What
    cannot be read, or has no manifest, is left out.
    """
    found = []
    paths = {path.resolve() for folder in folders for path in folder.glob(f"{flatpack}*{SUFFIX}") if path.is_file()}
    for path in sorted(paths):
        if path.name.removesuffix(SUFFIX) != flatpack and not path.name.startswith(f"{flatpack}-"):
            continue
        try:
            manifest = find_payload_manifest(path)
        except BoxError:
            continue
        if manifest is not None and manifest.flatpack == flatpack:
            found.append(LocalBox(path, manifest.version, manifest.target))
    return found


def best_box(
    boxes: Sequence[LocalBox], machine: Profile, profile_folders: Sequence[Path], target: str | None = None
) -> LocalBox:
    """Of the newest version: the box for ``target``, else for the target that fits ``machine`` and asks most of it.

    Raises ``BoxError`` where there is none, or more than one.
    """
    if target is not None:
        wanted = [box for box in boxes if box.target == target]
        if not wanted:
            raise BoxError(f"there is no box for the target {target!r} here", hint=f"there are: {_listed(boxes)}")
        return _only(_newest(wanted))
    newest = _newest(boxes)
    ranks = {box: rank for box in newest if (rank := _rank(box.target, machine, profile_folders)) is not None}
    if not ranks:
        raise BoxError(
            f"no box of version {newest[0].version} is for this machine ({machine.architecture}, {machine.os})",
            hint=f"--target NAME takes one all the same; there are: {_listed(newest)}",
        )
    best = max(ranks.values())
    return _only([box for box, rank in ranks.items() if rank == best])


_Rank = tuple[bool, bool, int, int]


def _rank(target: str, machine: Profile, profile_folders: Sequence[Path]) -> _Rank | None:
    """How much a target asks of ``machine``; ``None`` where that is more than it has, or nothing is known of it."""
    if target == ANY:
        return (False, False, 0, 0)
    if target == HOST:  # built for the machine it was built on: what lies here most likely was built here
        return (True, True, 0, 0)
    try:
        profile = load_profile(target, profile_folders)
    except PlanError:
        return None
    fits = (
        profile.os == machine.os
        and profile.architecture in (machine.architecture, "")
        and set(profile.cpu_features) <= set(machine.cpu_features)
        and profile.accelerator in (machine.accelerator, "none")
        and profile.memory_mb * _ENOUGH <= (machine.memory_mb or profile.memory_mb)
    )
    return (False, profile.accelerator != "none", len(profile.cpu_features), profile.memory_mb) if fits else None


def _newest(boxes: Sequence[LocalBox]) -> list[LocalBox]:
    newest = max(_version(box.version) for box in boxes)
    return [box for box in boxes if _version(box.version) == newest]


def _version(text: str) -> tuple[bool, Version, str]:
    """Versions that are none (``nightly-x``) come before all others, by their spelling."""
    try:
        return (True, Version(text), "")
    except ValueError:  # InvalidVersion is one, and so is a number with thousands of digits
        return (False, Version("0"), text)


def _only(boxes: Sequence[LocalBox]) -> LocalBox:
    if len(boxes) > 1:
        paths = ", ".join(str(box.path) for box in boxes)
        raise BoxError(
            f"more than one box could be meant: {paths}", hint="name the file, or one of them: --target NAME"
        )
    return boxes[0]


def _listed(boxes: Sequence[LocalBox]) -> str:
    return ", ".join(f"{box.version} for {box.target}" for box in boxes)
