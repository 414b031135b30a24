"""``flatpack reproduce``: is this box what its sources make?"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.cli.here import keys_option, policy_here
from flatpack_build.errors import FlatpackError
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.payload import PayloadFile
    from flatpack_build.box.recorded import RecordedBox
    from flatpack_build.builder import Outcome
    from flatpack_build.events import Listener
    from flatpack_build.reproducer import Change, Comparison, Rebuilt
    from flatpack_build.views import View

EPILOG = """\b
Examples:
  flatpack reproduce dist/chat-0.1.0-pi5.fpk
  flatpack reproduce chat.fpk --key vendor.pub.pem --json
"""
_CONSEQUENCES = ("provenance.json", "sbom.cdx.json")
"""Files that describe the others, and so always differ with them."""


class _Progress:
    """Draws what runs."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._name = ""

    def start(self, name: str) -> Listener:
        self._name = name
        self._view.start(name)
        return self

    def end(self, name: str, outcome: Outcome | None) -> None:
        from flatpack_build.views import time_text

        self._view.end(name)
        if outcome is not None:
            self._view.line(f"  {outcome.state:8} {name:42} {time_text(outcome.seconds)}")

    def progress(self, done: int, total: int | None, unit: str) -> None:
        self._view.progress(self._name, done, total, unit)

    def note(self, text: str) -> None:
        pass


@click.command(epilog=EPILOG)
@click.argument("box", type=click.Path(dir_okay=False, path_type=Path))
@keys_option
@click.option("--fetch", is_flag=True, help="Fetch all sources again, also those that the cache has.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def reproduce(box: Path, keys: tuple[Path, ...], fetch: bool, as_json: bool) -> int:
    """Build BOX once more from the sources of the current project, and compare the two payloads byte for byte.

    Nothing that was built before is used. The exit status is 0 if the payload is the same, 1 if it is not (then files,
    parameters, sources and versions that differ are named), 2 if it could not be built or is not trusted here.
    """
    try:
        return _reproduce(box, keys, fetch, as_json)
    except FlatpackError as error:
        click.echo(f"error: {error.shown(os.getcwd())}", err=True)
        return 2


def _reproduce(box: Path, keys: tuple[Path, ...], fetch: bool, as_json: bool) -> int:
    from flatpack_build.box.recorded import read_recorded  # these bring most of the program
    from flatpack_build.project import find_project
    from flatpack_build.reproducer import Reproducer, compare
    from flatpack_build.views import view_for

    project = find_project(Path.cwd())
    reproducer = Reproducer(project, fetch_again=fetch)
    recorded = read_recorded(box, policy_here(keys))
    graph, pack = reproducer.graph(recorded)
    view = view_for(sys.stderr if as_json else sys.stdout)
    view.line(f"{box}: signed by {recorded.verified.key_id[:12]}; building {pack.removeprefix('pack:')} once more")
    try:
        rebuilt = reproducer.rebuild(graph, pack, _Progress(view))
    finally:
        view.close()
    comparison = compare(recorded, rebuilt, box)
    if as_json:
        click.echo(json.dumps(_as_json(box, recorded, rebuilt, comparison), indent=2))
    else:
        _print(recorded, rebuilt, comparison)
    return 0 if comparison.same else 1


def _print(recorded: RecordedBox, rebuilt: Rebuilt, comparison: Comparison) -> None:
    if comparison.same:
        click.echo(f"\nsame: the payload came out byte for byte, sha256 {recorded.payload}")
        return
    click.echo("\ndifferent: the payload did not come out the same")
    click.echo(f"  box      sha256 {recorded.payload}\n  rebuilt  sha256 {rebuilt.payload}")
    own = [change for change in comparison.files if change.path not in _CONSEQUENCES]
    if not comparison.files:
        click.echo("\nEvery file is the same: only the compression differs.")
    elif own:
        click.echo("\nfiles that differ:")
        for change in own:
            click.echo(f"  {change.path}: {_file(change.box)} in the box, {_file(change.rebuilt)} rebuilt")
    if len(own) < len(comparison.files):
        names = " and ".join(change.path for change in comparison.files if change.path in _CONSEQUENCES)
        click.echo(f"  {names}: describe the rest, and so differ with it")
    titles = (
        ("parameters that are not as recorded", comparison.asked),
        ("sources that are not as recorded", comparison.sources),
        ("tools of another version", comparison.tools),
    )
    for title, changes in titles:
        if changes:
            click.echo(f"\n{title}:")
            for item in changes:
                click.echo(printable(f"  {_change(item)}"))
    if not comparison.tools and not comparison.tools_known:
        click.echo("\nThe versions of the tools are not known: they are in the .provenance.json beside a box.")


def _file(file: PayloadFile | None) -> str:
    return f"{file.size} bytes, mode {file.mode:04o}, sha256 {file.sha256[:12]}" if file else "nothing"


def _change(change: Change) -> str:
    return f"{change.what}: {_short(change.recorded)} recorded, {_short(change.now)} now"


def _short(text: str) -> str:
    return (text if len(text) <= 100 else text[:97] + "...") or "nothing"


def _as_json(box: Path, recorded: RecordedBox, rebuilt: Rebuilt, comparison: Comparison) -> dict[str, object]:
    return {
        "box": str(box),
        "flatpack": recorded.manifest.flatpack,
        "target": recorded.manifest.target,
        "payload": recorded.payload,
        "rebuilt": rebuilt.payload,
        **asdict(comparison),
    }
