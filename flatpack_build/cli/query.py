"""``flatpack query``: what depends on a file, and what a box depends on."""

from __future__ import annotations

from pathlib import Path

import click

from flatpack_build.cli.groups import HelpfulGroup


class _Queries(HelpfulGroup):
    def hint(self, word: str, known: list[str]) -> str:
        return f"did you mean: flatpack query {'uses' if Path(word).exists() else 'needs'} {word}"


@click.group(cls=_Queries)
def query() -> None:
    """Ask what depends on what. Nothing is run and nothing is written.

    \b
    Examples:
      flatpack query uses warehouse/hello-docs/README.md
      flatpack query needs hello-docs@pi5
    """


@query.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def uses(file: Path, as_json: bool) -> None:
    """Say which actions and boxes of the warehouse depend on FILE (or on anything in a folder).

    \b
    Example: flatpack query uses warehouse/hello-docs/README.md
    """
    from flatpack_build import query  # doit and the builder are not needed for --help
    from flatpack_build.doit_tasks.commands import open_inspection, style
    from flatpack_build.doit_tasks.looking import long_look
    from flatpack_build.listing import answers
    from flatpack_build.project import find_project

    with long_look():
        answer = query.uses(open_inspection(find_project(Path.cwd())), file)
    click.echo(answers.uses_json(answer) if as_json else "\n".join(answers.uses_text(answer, style())))


@query.command()
@click.argument("name", metavar="BOX|TASK|NAME[@TARGET]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def needs(name: str, as_json: bool) -> None:
    """Say what a box, a task or a flatpack depends on: files and sources with their digests, and tools.

    \b
    Examples:
      flatpack query needs hello-docs@pi5
      flatpack query needs dist/hello-docs-0.1.0-pi5.fpk
    """
    from flatpack_build import query
    from flatpack_build.doit_tasks.commands import open_inspection, style
    from flatpack_build.doit_tasks.looking import long_look
    from flatpack_build.listing import answers
    from flatpack_build.project import find_project

    with long_look():
        answer = query.needs(open_inspection(find_project(Path.cwd())), name)
    click.echo(answers.needs_json(answer) if as_json else "\n".join(answers.needs_text(answer, style())))
