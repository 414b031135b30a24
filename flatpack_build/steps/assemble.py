"""Puts together what goes into a box but for model, index and documents, and generates what a box needs and lacks.

Knows the few files it generates; must not know where its input trees come from or how a box is packed.
"""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flatpack_build import events, fs
from flatpack_build.errors import StepError
from flatpack_build.params import AssembleParams
from flatpack_build.steps.rendering import render

_OWN = "own"
# The device step makes it, but to the person it is as generated as build.sh: one of their own wins.
_DEVICE_SCRIPT = "device.sh"
_BUILD_FOLDER = "/home/content/"  # how old manifests spell the flatpack's build folder

_GENERATED: Mapping[str, Callable[[AssembleParams], str]] = {
    "build.sh": lambda params: render("build.sh.j2", flatpack=params.flatpack),
    "custom.sh": lambda _params: render("custom.sh.j2"),
    "index.html": lambda params: render(
        "index.html.j2", title=params.title or params.flatpack, description=params.description
    ),
}


@dataclass(frozen=True)
class _Placed:
    """A file (``source``) or an empty folder (no source) of the input ``owner``, on its way into the box."""

    owner: str
    source: Path | None

    @property
    def mode(self) -> int:
        return 0o555 if self.source is not None and self.source.stat().st_mode & stat.S_IXUSR else 0o444


def run(params: AssembleParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Place every input tree (or single file) at ``params.places[name]`` below ``out``, then add what is missing.

    What other steps made wins over the flatpack's own file of that path, with a note; own files win over generated
    ones. Raises ``StepError`` when two other inputs want one path, or a path is a file here and a folder there.
    """
    placed: dict[str, _Placed] = {}
    try:
        for name in sorted(inputs, key=lambda name: (name != _OWN, name)):
            for path, source in _files(inputs[name], _place(params.places.get(name, ""), f"the place of {name}")):
                _put(placed, path, _Placed(name, source))
        for text in params.directories:
            folder = _place(text, "[directories]")
            if folder:
                placed.setdefault(folder + "/", _Placed("[directories]", None))
        _refuse_files_as_folders(placed)
        _write(params, placed, out)
    except OSError as error:
        raise StepError(
            f"the box could not be put together: {error.strerror or error}"
            + f" ({error.filename})" * bool(error.filename),
            hint="check the free space and the permissions of the build folder",
        ) from error


def _place(text: str, what: str) -> str:
    """``text`` as a folder relative to the flatpack's, ``""`` for that folder itself."""
    relative = text[len(_BUILD_FOLDER) :] if f"{text}/".startswith(_BUILD_FOLDER) else text
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts:
        raise StepError(
            f"{what}: {text!r} is not inside the flatpack's folder",
            hint=f'name a relative folder, such as "models", or one below {_BUILD_FOLDER}',
        )
    return "" if path == PurePosixPath() else path.as_posix()


def _files(root: Path, place: str) -> list[tuple[str, Path | None]]:
    if root.is_file():
        return [(place or root.name, root)]
    prefix = f"{place}/" if place else ""
    return [(prefix + name, None if name.endswith("/") else Path(entry.path)) for name, entry in fs.walk_files(root)]


def _put(placed: dict[str, _Placed], path: str, new: _Placed) -> None:
    old = placed.get(path)
    if old is None:
        placed[path] = new
        return
    if old.source is None or new.source is None:
        return  # the same empty folder twice
    if old.mode == new.mode and filecmp.cmp(old.source, new.source, shallow=False):
        return
    if old.owner != _OWN:
        raise StepError(
            f"{path} comes from both {old.owner} and {new.owner}, and they differ",
            hint="let one of them write elsewhere: change its outputs or its to_destination",
        )
    if path == _DEVICE_SCRIPT:
        events.note(f"the flatpack's own {path} is used, not the one generated for this hardware")
        return
    events.note(f"{path}: what {new.owner} made replaces the flatpack's own file")
    placed[path] = new


def _refuse_files_as_folders(placed: Mapping[str, _Placed]) -> None:
    for path, item in placed.items():
        parts = path.rstrip("/").split("/")
        for count in range(1, len(parts) + path.endswith("/")):
            folder = "/".join(parts[:count])
            if folder in placed:
                raise StepError(
                    f"{folder} is a file in {placed[folder].owner} and a folder in {item.owner}",
                    hint="rename one of them",
                )


def _write(params: AssembleParams, placed: Mapping[str, _Placed], out: Path) -> None:
    for count, path in enumerate(sorted(placed), start=1):
        item, target = placed[path], out / path
        if item.source is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            # A link in an input stands for the file it points to: the box holds plain files only.
            fs.link_or_copy(Path(os.path.realpath(item.source)), target, mode=item.mode)
        events.progress(count, len(placed), "files")
    for path, text in _GENERATED.items():
        if path not in placed:
            fs.atomic_write(out / path, text(params).encode(), mode=0o755 if path.endswith(".sh") else 0o644)
