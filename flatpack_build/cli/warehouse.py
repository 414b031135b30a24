"""``flatpack list`` and ``flatpack targets``: what there is to build, and for what."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from flatpack_build.errors import FlatpackError
from flatpack_build.plain import printable


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def list_flatpacks(as_json: bool) -> int:
    """List the flatpacks of the warehouse.

    \b
    Example: flatpack list
    """
    from flatpack_build.manifest.load import load_manifest  # pydantic: not for --help
    from flatpack_build.project import find_project

    project = find_project(Path.cwd())
    found, broken = [], 0
    for name in project.flatpacks():
        try:
            manifest = load_manifest(project.flatpack_folder(name) / "flatpack.toml")
        except FlatpackError as error:
            broken += 1
            click.echo(printable(f"error: {error}"), err=True)
            continue
        found.append(
            {
                "name": name,
                "version": manifest.version,
                "targets": list(manifest.build_targets),
                "description": manifest.description,
            }
        )
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _table(
            ("name", "version", "targets", "description"), [[_cell(value) for value in row.values()] for row in found]
        )
    return 1 if broken else 0


@click.command("targets")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def list_targets(as_json: bool) -> None:
    """List the kinds of hardware that can be built for, and this machine as "host".

    \b
    Example: flatpack targets
    """
    from flatpack_build.planner import profile_folders
    from flatpack_build.project import find_project
    from flatpack_build.resources import builtin_folder
    from flatpack_build.targets import host_profile, load_profiles

    try:
        folders = profile_folders(find_project(Path.cwd()))
    except FlatpackError:
        folders = (builtin_folder("targets"),)  # outside a project there are still the built-in ones
    profiles = {**load_profiles(folders), "host": host_profile()}
    if as_json:
        click.echo(json.dumps({name: profile.model_dump(mode="json") for name, profile in profiles.items()}, indent=2))
        return
    rows = [
        [
            name,
            profile.architecture,
            profile.device,
            f"{profile.model_memory_mb} MB" if profile.model_memory_mb else "-",
            ", ".join(profile.gguf_quants[:3]),
            profile.description,
        ]
        for name, profile in profiles.items()
    ]
    _table(("target", "architecture", "device", "for the model", "prefers", "description"), rows)


def _cell(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    from flatpack_build.listing.style import style_of
    from flatpack_build.listing.table import table, width_of

    shown = table(columns, rows, width=width_of(sys.stdout), right=("for the model",), style=style_of(sys.stdout))
    click.echo("\n".join(shown))
