"""``flatpack verify``: who signed these boxes, and are they whole?"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from flatpack_build.box.container import VerifiedBox, find_boxes, verify_box, verify_contents
from flatpack_build.box.keys import PublicKey, load_public_key
from flatpack_build.errors import BoxError

EPILOG = """\b
Examples:
  flatpack verify dist/chat-pi5.fpk --key keys/signing.pub.pem
  flatpack verify dist --key keys/signing.pub.pem --json
"""
_WIDE = 160
"""Columns of the table where there is no terminal to fit it to."""


@dataclass(frozen=True)
class _Verdict:
    """What became of one box: ``verified``, or the ``error`` it was refused with."""

    box: Path
    verified: VerifiedBox | None = None
    error: BoxError | None = None


@click.command(epilog=EPILOG)
@click.argument("boxes", nargs=-1, required=True, metavar="BOX...", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PUBLIC.pem",
    help="A public key that may have signed the boxes. May be given more than once.",
)
@click.option(
    "--contents", is_flag=True, help="Also unpack in memory and check each file against the payload manifest."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def verify(boxes: tuple[Path, ...], keys: tuple[Path, ...], contents: bool, as_json: bool) -> None:
    """Check the signature of each BOX, or of every box in a folder. The exit status is 1 if any is refused."""
    public_keys = [load_public_key(key) for key in keys]
    verdicts = [_judge(box, public_keys, contents) for box in find_boxes(boxes)]
    if as_json:
        refused = sum(1 for verdict in verdicts if verdict.error)
        click.echo(json.dumps({"refused": refused, "boxes": [_as_json(verdict) for verdict in verdicts]}, indent=2))
    else:
        _print_table(verdicts)
    if any(verdict.error for verdict in verdicts):
        click.get_current_context().exit(1)


def _judge(box: Path, keys: list[PublicKey], contents: bool) -> _Verdict:
    try:
        return _Verdict(box, verified=(verify_contents if contents else verify_box)(box, keys))
    except BoxError as error:
        return _Verdict(box, error=error)


def _as_json(verdict: _Verdict) -> dict[str, object]:
    if verdict.error:
        return {
            "box": str(verdict.box), "ok": False, "error": verdict.error.message, "hint": verdict.error.hint or None,
        }  # fmt: skip
    assert verdict.verified
    verified, manifest = verdict.verified, verdict.verified.manifest
    return {
        "box": str(verdict.box),
        "ok": True,
        "flatpack": manifest.flatpack if manifest else None,
        "version": manifest.version if manifest else None,
        "target": manifest.target if manifest else None,
        "files": len(manifest.files) if manifest else None,
        "content_size": manifest.size if manifest else None,
        "payload": manifest.digest if manifest else None,
        "size": verified.box_size,
        "hash": verified.hash.value,
        "key": verified.key_id,
        "development_key": verified.development,
    }


def _print_table(verdicts: list[_Verdict]) -> None:
    # rich is slow to load, and --json does without.
    from rich.console import Console
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("Box", overflow="fold")
    for title in ("Flatpack", "Version", "Target"):
        table.add_column(title)
    for title in ("Size", "Files"):
        table.add_column(title, justify="right")
    table.add_column("Key")
    for verdict in verdicts:
        name = escape(str(verdict.box))
        if not verdict.verified:
            table.add_row("[red]refused[/]", name)
            continue
        verified, manifest = verdict.verified, verdict.verified.manifest
        key = verified.key_id[:12] + (" [yellow](development)[/]" if verified.development else "")
        about = (manifest.flatpack, manifest.version, manifest.target) if manifest else ("-", "-", "-")
        files = str(len(manifest.files)) if manifest else "-"
        table.add_row("[green]OK[/]", name, *map(escape, about), decimal(verified.box_size), files, key)
    console.print(table)
    for verdict in verdicts:
        if verdict.error:
            console.print(f"\n[red]refused[/] {escape(str(verdict.box))}: {escape(verdict.error.message)}")
            if verdict.error.hint:
                console.print(f"  hint: {escape(verdict.error.hint)}")
