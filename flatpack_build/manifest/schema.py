"""The JSON Schemas of ``flatpack.toml`` and of profiles, made from the models, for editors. Writes only when run.

``python -m flatpack_build.manifest.schema <folder>`` brings the files in a folder up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flatpack_build.fs import atomic_write
from flatpack_build.manifest.model import Manifest
from flatpack_build.manifest.profile import Profile


def schemas() -> Mapping[str, str]:
    """File name -> text of each schema. The same models give the same text."""
    return {
        "flatpack.schema.json": _text(Manifest, "flatpack.toml"),
        "target.schema.json": _text(Profile, "A target profile", optional=("name",)),
    }


def _text(kind: type[BaseModel], title: str, *, optional: tuple[str, ...] = ()) -> str:
    schema = _plain(kind.model_json_schema())
    schema["required"] = [key for key in schema["required"] if key not in optional]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps({**head, **{key: value for key, value in schema.items() if key != "title"}}, indent=2) + "\n"


def _plain(schema: Any, *, names: bool = False) -> Any:
    """Leave out what TOML cannot say (null) and what only repeats a key (titles).

    ``names``: the keys of this table are names of ours (properties, definitions), not words of JSON Schema.
    """
    if isinstance(schema, list):
        return [_plain(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {key: _plain(value) for key, value in schema.items()}
    plain: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("examples", "enum", "required"):
            plain[key] = value
        elif key == "anyOf":
            options = [_plain(option) for option in value if option != {"type": "null"}]
            plain |= options[0] if len(options) == 1 else {"anyOf": options}
        elif key != "title" and not (key == "default" and value in (None, {}, [])):
            plain[key] = _plain(value, names=key in ("properties", "$defs"))
    return plain


def write(folder: Path) -> None:
    """Write each schema into ``folder``, whole or not at all. Raises ``OSError``."""
    for name, text in schemas().items():
        atomic_write(folder / name, text.encode())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m flatpack_build.manifest.schema <folder>")
    write(Path(sys.argv[1]))
