"""``flatpack diff``: what differs between two boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.cli.here import keys_option, policy_here
from flatpack_build.cli.text import bytes_text
from flatpack_build.cli.verify import judge_open
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.description import BoxEntry
    from flatpack_build.box.difference import Difference

EPILOG = """\b
Examples:
  flatpack diff old/chat-0.1.0-pi5.fpk dist/chat-0.2.0-pi5.fpk
  flatpack diff a.fpk b.fpk --exit-code && echo "the same content"
"""


@click.command(epilog=EPILOG)
@click.argument("before", metavar="BOX", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("after", metavar="BOX", type=click.Path(dir_okay=False, path_type=Path))
@keys_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the contents differ.")
def diff(before: Path, after: Path, keys: tuple[Path, ...], as_json: bool, exit_code: bool) -> None:
    """Compare the contents of two boxes: files, texts line by line, and what models say of themselves.

    Signatures are not compared, but a box that is not trusted is said to be so.
    """
    from flatpack_build.box.contents import open_box  # these bring zstandard: not for --help
    from flatpack_build.box.difference import compare_open_boxes

    policy = policy_here(keys)
    problems = {}
    with open_box(before) as old, open_box(after) as new:
        for box, file in ((before, old), (after, new)):
            verdict = judge_open(box, file, policy)
            if verdict.error:
                problems[str(box)] = verdict.error.message
            elif verdict.judgement and verdict.judgement.warning:
                problems[str(box)] = verdict.judgement.warning
        difference = compare_open_boxes(old, new)
    if as_json:
        click.echo(json.dumps(_as_json(before, after, difference, problems), indent=2))
    else:
        for name, problem in problems.items():
            click.echo(printable(f"warning: {name} is NOT TRUSTED: {problem}"), err=True)
        for line in _lines(difference):
            click.echo(printable(line))
        if not difference:
            click.echo("the contents are the same")
    click.get_current_context().exit(1 if exit_code and difference else 0)


def _as_json(before: Path, after: Path, difference: Difference, problems: dict[str, str]) -> dict[str, object]:
    return {
        "before": str(before),
        "after": str(after),
        "same": not difference,
        "not_trusted": problems,
        "facts": [
            {"about": item.about or None, "fact": item.fact, "before": item.before, "after": item.after}
            for item in difference.facts
        ],
        "added": [_entry(entry) for entry in difference.added],
        "removed": [_entry(entry) for entry in difference.removed],
        "changed": [
            {"path": item.path, "before": _entry(item.before), "after": _entry(item.after), "text": item.text or None}
            for item in difference.changed
        ],
    }


def _entry(entry: BoxEntry) -> dict[str, object]:
    return {
        "path": entry.path,
        "kind": entry.kind,
        "mode": f"{entry.mode:04o}",
        "size": entry.size,
        "sha256": entry.sha256,
    }


def _lines(difference: Difference) -> Iterator[str]:
    for item in difference.facts:
        about = f"{item.about}: " if item.about else ""
        yield f"{about}{item.fact}: {_value(item.before)} -> {_value(item.after)}"
    for entry in difference.removed:
        yield f"- {entry.path}  {bytes_text(entry.size)}"
    for entry in difference.added:
        yield f"+ {entry.path}  {bytes_text(entry.size)}"
    for change in difference.changed:
        before, after = change.before, change.after
        sizes = f"{before.size:,} -> {after.size:,} bytes" if before.size != after.size else f"{after.size:,} bytes"
        mode = f", mode {before.mode:04o} -> {after.mode:04o}" if before.mode != after.mode else ""
        kind = f", {before.kind} -> {after.kind}" if before.kind != after.kind else ""
        yield f"! {change.path or '(the file)'}  {sizes}{mode}{kind}"
        yield from (f"    {line}" for line in change.text.splitlines())


def _value(value: int | str | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else value
