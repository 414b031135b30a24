"""pack: everything that goes into the box, as one reproducible payload. Knows no keys and makes no signature."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flatpack_build import fs
from flatpack_build.box.manifest_toml import render_manifest
from flatpack_build.box.packing import PayloadEntry, write_payload
from flatpack_build.box.paths import find_conflict, path_problem
from flatpack_build.box.payload import MANIFEST_NAME, PayloadManifest
from flatpack_build.digest import Json
from flatpack_build.errors import BoxError, StepError
from flatpack_build.materials import Materials
from flatpack_build.params import INPUT_DIGESTS, PackParams
from flatpack_build.steps.description import DESCRIPTIONS, describe
from flatpack_build.tree import Tree, decode_trees

FLATPACK_TOML = "flatpack.toml"
_RENAME_HINT = "rename one of them, or leave it out"


@dataclass(frozen=True, slots=True)
class _Claim:
    """An entry and the input that wants it in the box; no ``owner``: the pack step itself."""

    entry: PayloadEntry
    owner: str

    @property
    def claimant(self) -> str:
        return f"input {self.owner!r}" if self.owner else "the resolved manifest"


def run(params: PackParams, inputs: Mapping[str, Path], out: Path) -> None:
    """Write ``out/payload.tar.zst`` and, as they are in it, ``out/payload.json``, ``out/provenance.json`` and
    ``out/sbom.cdx.json``.

    A ``flatpack.toml`` at the top of an input gives way to the one resolved for this target. Raises ``StepError`` when
    two inputs want one path, or when a path cannot stand in a box.
    """
    try:
        resolved = _load_manifest(params.manifest)
        trees = decode_trees(inputs[INPUT_DIGESTS].read_bytes()) if INPUT_DIGESTS in inputs else {}
        claims = _gather(
            params, {name: path for name, path in inputs.items() if name != INPUT_DIGESTS}, resolved, trees
        )
        described: list[PayloadEntry] = []

        def describe_all(contents: PayloadManifest) -> list[PayloadEntry]:
            owners = {claim.entry.path: claim.owner for claim in claims}
            described.extend(describe(contents, resolved, _load_materials(params), owners, inputs.get("model")))
            return described

        with open(out / "payload.tar.zst", "xb") as file:
            manifest = write_payload(
                [claim.entry for claim in claims],
                file,
                flatpack=params.flatpack,
                version=params.flatpack_version,
                target=params.target,
                level=params.level,
                describe=describe_all,
            )
    except BoxError as error:
        raise StepError(error.message, place=error.place, hint=error.hint) from error
    except OSError as error:
        raise StepError(
            f"packing failed: {error}", hint="free some space" if error.errno == errno.ENOSPC else ""
        ) from error
    fs.atomic_write(out / MANIFEST_NAME, manifest.encode())
    for entry in described:
        assert isinstance(entry.source, bytes), "descriptions are made here"
        fs.atomic_write(out / entry.path, entry.source)


def _gather(
    params: PackParams, inputs: Mapping[str, Path], manifest: Mapping[str, Json], trees: Mapping[str, Tree]
) -> list[_Claim]:
    """Everything to pack, checked. An empty folder that turns out to hold something is not among it."""
    resolved = render_manifest(manifest).encode()
    files = {FLATPACK_TOML: _Claim(PayloadEntry(FLATPACK_TOML, resolved), "")}
    folders: dict[str, _Claim] = {}
    for name in sorted(inputs):
        if name not in params.places:
            raise StepError(f"the input {name!r} has no place in the box")
        for entry in _entries(inputs[name], params.places[name].strip("/"), trees.get(name, Tree(()))):
            claim = _Claim(entry, name)
            if problem := path_problem(entry.path):
                raise StepError(f"the path {entry.path!r} of {claim.claimant} {problem}", hint="rename the file")
            if entry.path == FLATPACK_TOML:
                continue
            if entry.path in (MANIFEST_NAME, *DESCRIPTIONS):
                raise StepError(
                    f"{claim.claimant} has a file {entry.path!r}, which the box writes itself", hint="rename it"
                )
            if entry.source is None:
                folders.setdefault(entry.path, claim)
            elif entry.path in files:
                first = files[entry.path].claimant
                raise StepError(f"{first} and {claim.claimant} both want the path {entry.path!r}", hint=_RENAME_HINT)
            else:
                files[entry.path] = claim
    if conflict := find_conflict(files, folders):
        owners = {**folders, **files}
        first, second = (f"{path!r} ({owners[path].claimant})" for path in (conflict.first, conflict.second))
        raise StepError(f"{first} and {second} {conflict.reason}", hint=_RENAME_HINT)
    used = {path[:at] for path in (*files, *folders) for at, character in enumerate(path) if character == "/"}
    return [*files.values(), *(claim for path, claim in folders.items() if path not in used)]


def _entries(source: Path, place: str, known: Tree) -> list[PayloadEntry]:
    digests = {entry.path: entry.digest for entry in known.entries if entry.kind != "dir"}
    if not source.exists():
        raise StepError(f"the input for {place or 'the top of the box'!r} is missing")
    if not source.is_dir():
        if not place:
            raise StepError(f"the file {source.name!r} has no name in the box")
        return [PayloadEntry(place, source, place.endswith(".sh"), digests.get(""))]
    prefix = f"{place}/" if place else ""
    entries = [PayloadEntry(place, None)] if place else []
    for path, entry in fs.walk_files(source):
        if path.endswith("/"):
            entries.append(PayloadEntry(prefix + path.rstrip("/"), None))
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise StepError(
                f"{path!r} is not a plain file; a box holds files and folders only",
                hint="put a copy where the link is" if stat.S_ISLNK(mode) else "leave it out",
            )
        executable = bool(mode & 0o111)
        entries.append(PayloadEntry(prefix + path, Path(os.fspath(entry)), executable, digests.get(path)))
    return entries


def _load_materials(params: PackParams) -> Materials:
    if not params.materials:
        return Materials()
    try:
        return Materials.decode(params.materials)
    except ValueError as error:
        raise StepError(f"the box cannot be described: {error}") from error


def _load_manifest(text: str) -> dict[str, Json]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StepError(f"the resolved manifest is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise StepError("the resolved manifest is not a JSON object")
    return value
