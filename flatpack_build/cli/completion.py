"""``flatpack completion``: the script that teaches a shell to complete commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Example (bash): flatpack completion bash >> ~/.bashrc
    """
    from flatpack_build.cli import cli  # the group that this command is part of

    kind = get_completion_class(shell)
    assert kind is not None, "the choices are click's own"
    click.echo(kind(cli, {}, "flatpack", "_FLATPACK_COMPLETE").source())
