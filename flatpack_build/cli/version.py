"""``flatpack version``."""

from __future__ import annotations

import click

from flatpack_build import __version__


@click.command()
def version() -> None:
    """Show the version of flatpack-build.

    \b
    Example: flatpack version
    """
    click.echo(f"flatpack-build {__version__}")
