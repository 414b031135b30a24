"""``flatpack trust``: whose boxes are accepted."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.cli.here import current_project
from flatpack_build.errors import UsageError
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.trusted_keys import TrustFolder
    from flatpack_build.project import Project

EPILOG = """\b
Examples:
  flatpack trust add vendor.pub.pem                        for you, in every project
  flatpack trust add vendor.pub.pem --flatpack 'chat-*'    only for some flatpacks
  flatpack trust add ci.pub.pem --project                  for everybody in this project
  flatpack trust list
  flatpack trust remove vendor
"""


@click.group(epilog=EPILOG)
def trust() -> None:
    """Say whose boxes are accepted, and of which flatpacks."""


_SCOPE = (
    click.option("--project", "scope", flag_value="project", help="For everybody in this project (keys/trusted/)."),
    click.option("--user", "scope", flag_value="user", help="For you, in every project."),
)


@trust.command("add")
@click.argument("key", metavar="KEY.pub.pem", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", help="What to call the key.  [default: the name of its file]")
@click.option(
    "--flatpack",
    "flatpacks",
    multiple=True,
    metavar="PATTERN",
    help="A flatpack that it may sign, or a pattern of names. May be given more than once.  [default: all]",
)
@click.option("--development", is_flag=True, help="Trust it although it is a development key.")
@_SCOPE[0]
@_SCOPE[1]
def add(key: Path, name: str | None, flatpacks: tuple[str, ...], development: bool, scope: str | None) -> None:
    """Accept boxes that the owner of a key has signed; a key that is trusted already gets the new flatpacks.

    Without --project or --user: for you, in every project.

    \b
    Example: flatpack trust add vendor.pub.pem --flatpack 'chat-*'
    """
    folder = _folders(current_project(), scope or "user")[0]
    trusted = folder.add(key, name=name, flatpacks=flatpacks, development=development)
    what = "all flatpacks" if "*" in trusted.flatpacks else ", ".join(trusted.flatpacks)
    where = "in this project" if scope == "project" else "in every project of yours"
    click.echo(f"trusted: {trusted.name} {trusted.key.key_id[:12]}, for {what}, {where}")


@trust.command("remove")
@click.argument("wanted", metavar="KEYID|NAME")
@_SCOPE[0]
@_SCOPE[1]
def remove(wanted: str, scope: str | None) -> None:
    """Trust a key no longer: by its name, or the first 8 or more characters of its id.

    \b
    Example: flatpack trust remove vendor
    """
    found = [(folder, key) for folder in _folders(current_project(), scope) for key in folder.find(wanted)]
    if not found:
        raise UsageError(
            f"there is no trusted key {wanted!r}",
            hint="flatpack trust list shows names and ids (8 characters are enough); those of trusted_keys are taken out "
            "of pyproject.toml",
        )
    if len(found) > 1:
        listed = "".join(f"\n  {folder.scope}: {key.key_id} {key.source}" for folder, key in found)
        scopes, ids = {folder.scope for folder, _ in found}, {key.key_id for _, key in found}
        ways = ["add --user or --project"] * (len(scopes) > 1) + ["use the id"] * (len(ids) > 1)
        raise UsageError(f"{wanted!r} means more than one key:{listed}", hint=", or ".join(ways))
    ((folder, key),) = found
    folder.remove(key)
    click.echo(f"no longer trusted: {key.key_id[:12]} ({folder.scope})")


@trust.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def list_trusted(as_json: bool) -> None:
    """Show the keys that are trusted here, what they may sign, and what happens to other boxes."""
    from flatpack_build.box.policy import load_policy  # brings cryptography: not for --help

    policy = load_policy(current_project(), os.environ)
    if as_json:
        keys = [
            {
                "name": each.name,
                "key": each.key.key_id,
                "flatpacks": list(each.flatpacks),
                "scope": each.scope,
                "file": each.key.source,
                "development_key": each.key.development,
            }
            for each in policy.keys
        ]
        click.echo(json.dumps({"mode": policy.mode.value, "keys": keys}, indent=2))
        return
    words = {
        "enforce": "a box that none of these keys signed is refused",
        "warn": "a box that none of these keys signed is accepted with a warning",
        "off": "nobody checks who signed a box",
    }
    click.echo(f"trust: {policy.mode.value} ({words[policy.mode.value]})")
    if not policy.keys:
        click.echo("no key is trusted; add one: flatpack trust add KEY.pub.pem")
        return
    from flatpack_build.listing.style import style_of
    from flatpack_build.listing.table import table, width_of

    rows = [
        (
            printable(each.name),
            each.key.key_id[:12] + (" (development)" if each.key.development else ""),
            "all" if "*" in each.flatpacks else printable(", ".join(each.flatpacks)),
            each.scope,
            printable(os.path.relpath(each.key.source) if each.scope != "user" else each.key.source),
        )
        for each in policy.keys
    ]
    columns = ("name", "key", "flatpacks", "by", "file")
    for line in table(columns, rows, width=width_of(sys.stdout), style=style_of(sys.stdout)):
        click.echo(line)


def _folders(project: Project | None, scope: str | None) -> list[TrustFolder]:
    """Those that ``scope`` names; without one the user's and, in a project, the project's."""
    from flatpack_build.box.policy import project_trust, user_trust  # brings cryptography: not for --help

    folders = [] if scope == "project" else [user_trust(os.environ)]
    if scope == "project" and project is None:
        raise UsageError("this folder is not inside a flatpack project", hint="leave --project out, or go to one")
    if scope != "user" and project is not None:
        folders.append(project_trust(project))
    return folders
