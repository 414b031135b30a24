"""``flatpack graph``: the actions of a flatpack and their states, as a picture or for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.errors import UsageError

if TYPE_CHECKING:
    from flatpack_build.drawing.picture import Picture
    from flatpack_build.listing.style import Style

_FORMATS = ("text", "svg", "dot", "json")
_ENDINGS = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".json": "json", ".txt": "text", "": "text"}
_MOST = 20  # flatpacks in one picture


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME[@TARGET]|TASK]...")
@click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: by the name of FILE, else text]")
@click.option(
    "-o", "--output", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it to FILE."
)
def graph(names: tuple[str, ...], form: str | None, file: Path | None) -> None:
    """Show the actions of a flatpack, what each needs, and what a build would do with them.

    Of a box or a task: with all that it needs. Without a name: of all flatpacks. Nothing is run.

    \b
    Examples:
      flatpack graph smollm2-chat
      flatpack graph smollm2-chat@pi5
      flatpack graph smollm2-chat -o graph.svg
    """
    from flatpack_build.doit_tasks.commands import open_inspection, style  # doit is slow to load
    from flatpack_build.doit_tasks.looking import long_look
    from flatpack_build.fs import atomic_write
    from flatpack_build.pictures import pictures
    from flatpack_build.project import find_project

    chosen = form or _format_of(file)
    inspection = open_inspection(find_project(Path.cwd()))
    flatpacks = inspection.flatpacks(names)
    for name in [name for name in flatpacks if not inspection.locked(name)]:
        if names:
            inspection.need_lock(name)
        flatpacks.remove(name)
        click.echo(f"{name} has no flatpack.lock yet and is left out", err=True)
    if chosen == "svg" and len(flatpacks) > _MOST:
        raise UsageError(f"{len(flatpacks)} flatpacks are too many for one picture", hint="name some of them")
    with long_look():
        drawn = pictures(inspection, names)
    text = _drawn(drawn, chosen, style() if file is None else None)
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        atomic_write(file, text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", hint="name another file") from error
    click.echo(f"{file}: {sum(len(item.actions) for item in drawn)} actions")


def _format_of(file: Path | None) -> str:
    """By the file's ending. Raises ``UsageError``."""
    if file is None:
        return "text"
    ending = file.suffix.lower()
    if ending not in _ENDINGS:
        raise UsageError(
            f"a graph is not written as {ending}", hint="name a file .svg, .dot, .json or .txt, or say --format"
        )
    return _ENDINGS[ending]


def _drawn(pictures: Sequence[Picture], form: str, style: Style | None) -> str:
    from flatpack_build.drawing.picture import dot
    from flatpack_build.drawing.svg import svg
    from flatpack_build.listing.plans import pictures_text
    from flatpack_build.listing.style import Style

    if form == "svg":
        return svg(pictures)
    if form == "dot":
        return dot(pictures)
    if form == "text":
        return "\n".join(pictures_text(pictures, style or Style(False))) + "\n"
    value = [
        {
            "flatpack": picture.flatpack,
            "actions": [
                {"action": action.name, "state": action.verdict, "reason": action.note, "needs": action.needs}
                for action in picture.actions
            ],
        }
        for picture in pictures
    ]
    return json.dumps(value, indent=2) + "\n"
