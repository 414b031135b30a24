"""Read a ``flatpack.toml`` into a ``Manifest``, or say all that is wrong with it. Knows no warehouse and no targets."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from flatpack_build.errors import ManifestError, Place
from flatpack_build.manifest.document import Document, parse_document, read_document
from flatpack_build.manifest.explain import Problem, as_error, problems
from flatpack_build.manifest.model import Manifest

MANIFEST_FILE = "flatpack.toml"


def load_manifest(path: Path) -> Manifest:
    """Read the ``flatpack.toml`` at ``path``. Raises ``ManifestError`` that lists all that is wrong with it."""
    return _validate(read_document(path, what=MANIFEST_FILE))


def parse_manifest(text: str, file: str) -> Manifest:
    """As ``load_manifest``, of a text; ``file`` is the name that errors show."""
    return _validate(parse_document(text, file))


def check_name(manifest: Manifest, path: Path) -> None:
    """Raise ``ManifestError`` unless the folder of the ``flatpack.toml`` at ``path`` is called like the flatpack."""
    folder = path.absolute().parent.name
    if manifest.name == folder:
        return
    try:
        place = read_document(path).value_place(("environment", "model_name"))
    except ManifestError:  # it was readable a moment ago
        place = Place(str(path))
    raise ManifestError(
        f"the flatpack is called {manifest.name!r}, but its folder {folder!r}",
        place=place,
        hint=f'write model_name = "{folder}", or rename the folder to {manifest.name}',
    )


def _validate(document: Document) -> Manifest:
    try:
        manifest = Manifest.model_validate(document.data)
    except ValidationError as error:
        raise as_error(problems(error, Manifest, document)) from error
    found: list[Problem] = []
    for name in manifest.target:
        try:
            manifest.for_target(name)
        except ValidationError as error:
            found += problems(error, Manifest, document, below=("target", name))
    if found:
        raise as_error(found)
    return manifest
