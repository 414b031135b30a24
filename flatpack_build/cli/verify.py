"""``flatpack verify``: who signed these boxes, and are they whole?"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from flatpack_build.cli.here import keys_option, policy_here
from flatpack_build.cli.progress import showing
from flatpack_build.cli.text import bytes_text
from flatpack_build.errors import BoxError
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.trust import Judgement, TrustPolicy

EPILOG = """\b
Examples:
  flatpack verify dist                        by the keys that are trusted here
  flatpack verify dist --key vendor.pub.pem   by this key and no other
  flatpack verify dist/chat-pi5.fpk --contents --json
"""
_COLUMNS = ("", "flatpack", "version", "target", "size", "files", "key", "box")
_KINDS = {"OK": "up to date", "refused": "fails"}


@dataclass(frozen=True)
class Verdict:
    """What became of one box: the ``judgement`` on it, or the ``error`` it was refused with."""

    box: Path
    judgement: Judgement | None = None
    error: BoxError | None = None


@click.command(epilog=EPILOG)
@click.argument("boxes", nargs=-1, required=True, metavar="BOX...", type=click.Path(path_type=Path))
@keys_option
@click.option(
    "--contents", is_flag=True, help="Also unpack in memory and check each file against the payload manifest."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def verify(boxes: tuple[Path, ...], keys: tuple[Path, ...], contents: bool, as_json: bool) -> None:
    """Check the signature of each BOX, or of every box in a folder. The exit status is 1 if any is refused.

    Without --key by the keys that are trusted here (flatpack trust list), each for what it may sign.
    """
    from flatpack_build.box.container import find_boxes  # brings cryptography: not for --help

    policy = policy_here(keys)
    verdicts = [judge(box, policy, contents=contents) for box in find_boxes(boxes)]
    refused = sum(1 for verdict in verdicts if verdict.error)
    if as_json:
        click.echo(json.dumps({"refused": refused, "boxes": [_as_json(verdict) for verdict in verdicts]}, indent=2))
    else:
        _print_table(verdicts)
    click.get_current_context().exit(1 if refused else 0)


def judge(box: Path, policy: TrustPolicy, *, contents: bool = False) -> Verdict:
    """The verdict on one box; ``contents`` reads all that is in it, too."""
    from flatpack_build.box.contents import open_box

    try:
        with open_box(box) as file:
            return judge_open(box, file, policy, contents=contents)
    except BoxError as error:
        return Verdict(box, error=error)


def judge_open(box: Path, file: BinaryIO, policy: TrustPolicy, *, contents: bool = False) -> Verdict:
    """``judge`` for a box that is open: what is shown of ``file`` next is of the one that was judged."""
    from flatpack_build.box.checked import check_open_box
    from flatpack_build.box.trust import judge_open_box

    try:
        with showing(f"checking {box.name}"):
            judgement = judge_open_box(file, policy)
            if contents:
                check_open_box(file, judgement.verified, judgement.manifest)
        return Verdict(box, judgement)
    except BoxError as error:
        return Verdict(box, error=error)


def _status(verdict: Verdict) -> str:
    if verdict.judgement is None:
        return "refused"
    if verdict.judgement.trusted is not None:
        return "OK"
    return "not trusted" if verdict.judgement.looked_at else "not checked"


def _as_json(verdict: Verdict) -> dict[str, object]:
    if verdict.judgement is None:
        assert verdict.error
        return {
            "box": str(verdict.box), "ok": False, "error": verdict.error.message, "hint": verdict.error.hint or None,
        }  # fmt: skip
    judgement, verified = verdict.judgement, verdict.judgement.verified
    manifest = judgement.manifest
    return {
        "box": str(verdict.box),
        "ok": True,
        "flatpack": judgement.flatpack,
        "version": manifest.version if manifest else None,
        "target": manifest.target if manifest else None,
        "files": len(manifest.files) if manifest else None,
        "content_size": manifest.size if manifest else None,
        "payload": manifest.digest if manifest else None,
        "size": verified.box_size if verified else verdict.box.stat().st_size,
        "hash": verified.hash.value if verified else None,
        "key": verified.key_id if verified else None,
        "development_key": verified.development if verified else None,
        "trusted_as": judgement.trusted.name if judgement.trusted else None,
        "warning": judgement.warning or None,
    }


def _print_table(verdicts: list[Verdict]) -> None:
    from flatpack_build.listing.style import style_of
    from flatpack_build.listing.table import table, width_of

    style = style_of(sys.stdout)
    shown = table(
        _COLUMNS,
        [[printable(cell) for cell in _row(verdict)] for verdict in verdicts],
        width=width_of(sys.stdout),
        right=("size", "files"),
        style=style,
        kind=lambda column, text: _KINDS.get(text, "may run") if column == "" else "",
    )
    click.echo("\n".join(shown))
    for verdict in verdicts:
        if verdict.error:
            reason = style("refused", "fails"), verdict.error.message, verdict.error.hint
        elif verdict.judgement and verdict.judgement.warning:
            reason = style("warning", "may run"), verdict.judgement.warning, ""
        else:
            continue
        word, message, hint = reason
        click.echo(f"\n{word} {printable(str(verdict.box))}: {printable(message)}")
        if hint:
            click.echo(f"  hint: {printable(hint)}")


def _row(verdict: Verdict) -> tuple[str, ...]:
    status, box = _status(verdict), str(verdict.box)
    if verdict.judgement is None:
        return (status, "", "", "", "", "", "", box)
    verified, manifest = verdict.judgement.verified, verdict.judgement.manifest
    flatpack = verdict.judgement.flatpack or "-"
    key = verified.key_id[:12] + (" (development)" if verified.development else "") if verified else "-"
    return (
        status,
        flatpack,
        *((manifest.version, manifest.target) if manifest else ("-", "-")),
        bytes_text(verified.box_size if verified else verdict.box.stat().st_size),
        str(len(manifest.files)) if manifest else "-",
        key,
        box,
    )
