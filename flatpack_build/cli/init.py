"""``flatpack init`` and ``flatpack create``: a new project, a new flatpack. Writes files; knows nothing of building."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from flatpack_build.errors import UsageError
from flatpack_build.fs import atomic_write, walk_files
from flatpack_build.project import NOT_FLATPACKS, find_project
from flatpack_build.resources import builtin_folder

_NAME = re.compile(r"[\w-]+")
_SCHEMA_LINE = re.compile(rb"^#:schema [^\r\n]*", re.MULTILINE)
_SCHEMA = "flatpack.schema.json"

_PYPROJECT = """\
# What makes this folder a flatpack project.

[tool.doit]
loader = "flatpack"

[tool.flatpack-build]
# Each setting with its default, or an example of it. Paths are relative to this folder.
# warehouse = "warehouse"
# targets = "targets"                      # profiles of your own hardware
# build = "build"
# dist = "dist"
# cache = "~/.cache/flatpack-build"        # default: your cache folder; FLATPACK_CACHE wins
# cache_max_size = "20 GB"                 # remove what was not used for longest; default: no limit
# cache_max_age = "30 d"                   # and what nobody used for so long; default: no limit
# signing_key = "keys/development.pem"     # FLATPACK_SIGNING_KEY wins
# model_signing_key = "keys/model-signing.pem" # makes OpenSSF model signatures; FLATPACK_MODEL_SIGNING_KEY wins
# trusted_keys = ["keys/vendor.pub.pem"]   # public keys that may have signed what comes in
# trust = "enforce"                        # boxes that no trusted key signed: enforce, warn or off
# jobs = 0                                 # cores to use; 0: as many as there are
# memory_mb = 0                            # memory to use; 0: nine tenths of what there is
"""

_DODO = '''\
"""What ``doit`` builds here.

The flatpacks of the warehouse are turned into tasks by the loader that pyproject.toml names; ``doit list`` shows them.
Tasks of your own can stand beside them: functions named ``task_...``, written as doit's documentation says.
"""
'''

_GITIGNORE = """\
/build/
/dist/
# Private keys never go into a repository; the public keys that the project trusts do.
/keys/*
!/keys/trusted/
.doit.db*
__pycache__/
"""


@dataclass(frozen=True)
class NewFile:
    """A file to write: its bytes, and whether it may be executed."""

    data: bytes
    executable: bool = False


def project_files(name: str, today: datetime.date) -> Mapping[str, NewFile]:
    """A new project with one flatpack ``name``: path relative to the project -> file."""
    files = {
        "pyproject.toml": NewFile(_PYPROJECT.encode()),
        "dodo.py": NewFile(_DODO.encode()),
        ".gitignore": NewFile(_GITIGNORE.encode()),
        f"schemas/{_SCHEMA}": _schema(),
    }
    flatpack = flatpack_files(builtin_folder("template"), name, today, schema=f"../../schemas/{_SCHEMA}")
    return files | {f"warehouse/{name}/{path}": file for path, file in flatpack.items()}


def flatpack_files(template: Path, name: str, today: datetime.date, *, schema: str) -> Mapping[str, NewFile]:
    """A new flatpack from a template folder: path relative to the flatpack -> file.

    Fills in ``{{model_name}}`` and ``{{current_date}}``, and where the schema lies, seen from the flatpack.
    """
    values = {b"{{model_name}}": name.encode(), b"{{current_date}}": today.isoformat().encode()}
    files = {}
    for path, entry in walk_files(template):
        if not entry.is_file() or "__pycache__" in path:
            continue
        data = Path(entry.path).read_bytes()
        if b"\0" not in data:
            for placeholder, value in values.items():
                data = data.replace(placeholder, value)
        if path.endswith(".toml"):
            data = _SCHEMA_LINE.sub(lambda _: f"#:schema {schema}".encode(), data, count=1)
        files[path] = NewFile(data, executable=bool(entry.stat().st_mode & 0o100))
    return files


def write_new(folder: Path, files: Mapping[str, NewFile]) -> None:
    """Write all files below ``folder``, or none: raises ``UsageError`` when one of them exists or cannot be written."""
    existing = [path for path in sorted(files) if os.path.lexists(folder / path)]
    if existing:
        listed = "".join(f"\n  {path}" for path in existing)
        raise UsageError(
            f"{folder} already has files that would be overwritten, so nothing was written:{listed}",
            hint="name a new folder, or move these files away",
        )
    written: list[Path] = []
    try:
        for path, file in files.items():
            atomic_write(folder / path, file.data, mode=0o755 if file.executable else 0o644)
            written.append(folder / path)
    except OSError as error:
        for done in written:
            with contextlib.suppress(OSError):
                done.unlink()
        raise UsageError(
            f"{error.filename or folder} cannot be written: {error.strerror}",
            hint="name a folder that you may write to, on a disk with room",
        ) from error


def _schema() -> NewFile:
    return NewFile((builtin_folder("schemas") / _SCHEMA).read_bytes())


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a flatpack",
            hint="a name is made of letters, digits, - and _, such as smollm2-chat",
        )
    if name in NOT_FLATPACKS:
        raise UsageError(f"{name!r} cannot be the name of a flatpack: it is kept for other uses", hint="take another")
    return name


def _name_from(folder: Path) -> str:
    name = re.sub(r"[^\w-]+", "-", folder.name).strip("-")
    return name if name and name not in NOT_FLATPACKS else "my-flatpack"


@click.command("init", short_help="Make a new project.")
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--name", help="The first flatpack's name (default: the folder's).")
def init(folder: Path, name: str | None) -> None:
    """Make a new project in FOLDER (the current one if none is named), with a flatpack to start from.

    Overwrites nothing: if one of its files exists already, nothing is written.
    """
    root = Path(os.path.abspath(folder))
    chosen = _checked_name(name) if name is not None else _name_from(root)
    write_new(root, project_files(chosen, datetime.date.today()))
    steps = [] if root == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    steps += ["flatpack keygen --development", f"doit build:{chosen}"]
    click.echo(f"A new project is in {root}, with the flatpack {chosen}.\n")
    click.echo("Next:\n" + "".join(f"  {step}\n" for step in steps))
    click.echo(f"What goes into the box stands in warehouse/{chosen}/flatpack.toml.")


@click.command("create", short_help="Make a new flatpack in this project.")
@click.argument("name")
def create(name: str) -> None:
    """Make a new flatpack NAME in the warehouse of the current project.

    It starts as a copy of the warehouse's folder "template" if there is one, else of the one that comes with flatpack.
    """
    _checked_name(name)
    project = find_project(Path.cwd())
    folder = project.warehouse / name
    if os.path.lexists(folder):
        raise UsageError(f"{folder} exists already", hint="take another name")
    own = project.warehouse / "template"
    template = own if (own / "flatpack.toml").is_file() else builtin_folder("template")
    schemas = project.root / "schemas"
    schema = os.path.relpath(schemas / _SCHEMA, folder)
    write_new(folder, flatpack_files(template, name, datetime.date.today(), schema=schema))
    if not (schemas / _SCHEMA).exists():
        write_new(schemas, {_SCHEMA: _schema()})
    click.echo(f"A new flatpack is in {folder}.\n")
    click.echo(f"Next:\n  edit {os.path.relpath(folder / 'flatpack.toml')}\n  doit build:{name}")
