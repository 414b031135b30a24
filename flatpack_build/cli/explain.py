"""``flatpack explain``: why something would be built again, or why not."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[TASK|NAME[@TARGET]]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def explain(names: tuple[str, ...], as_json: bool) -> None:
    """Say why a task would run again, or why not: what changed, from what to what, down to the cause.

    Of a flatpack or a box, only what would not stay as it is; without a name, of the whole warehouse. Nothing is run
    and nothing is written.

    \b
    Examples:
      flatpack explain smollm2-chat
      flatpack explain compress:smollm2-chat@pi5
    """
    from flatpack_build.doit_tasks.commands import explain_answer, open_inspection  # doit is slow to load
    from flatpack_build.project import find_project

    click.echo(explain_answer(open_inspection(find_project(Path.cwd())), list(names), as_json))
