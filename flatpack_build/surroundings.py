"""What lies around a declared build step: where it stands, what else its flatpack has. Reads files, runs nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from flatpack_build.action import Action, SourceTree, Surroundings
from flatpack_build.errors import ManifestError, Place
from flatpack_build.manifest.document import read_document
from flatpack_build.params import RunParams
from flatpack_build.planner import list_files


def surroundings(action: Action, actions: Iterable[Action]) -> Surroundings | None:
    """For an action that runs a declared build step, else ``None``. ``actions``: all of its flatpack."""
    source = action.inputs.get("files")
    if not isinstance(action.params, RunParams) or not isinstance(source, SourceTree):
        return None
    name = action.params.name
    place, inputs = _declaration(source, name, action.name.partition("@")[2])
    made = {
        output: other.params.name
        for other in actions
        if isinstance(other.params, RunParams) and other.params.name != name
        for output in other.params.outputs
    }
    return Surroundings(name, place, source.root, inputs, list_files(Path(source.root)), made)


def _declaration(source: SourceTree, name: str, target: str) -> tuple[Place, tuple[str, ...]]:
    """Where ``[build.<name>]`` stands, or what a target says of its inputs; and the inputs as they are written."""
    manifest = os.path.join(source.root, "flatpack.toml")
    with contextlib.suppress(ManifestError):  # edited since: then the files that it stood for will do
        document = read_document(Path(manifest))
        for keys in (("target", target, "build", name), ("build", name)):
            table: object = document.data
            for key in keys:
                table = table.get(key) if isinstance(table, dict) else None
            if isinstance(table, dict) and (keys[0] == "build" or "inputs" in table):
                return document.key_place(keys), tuple(table.get("inputs", ()))
    return Place(manifest), source.files
