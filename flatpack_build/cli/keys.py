"""``flatpack keygen``: a pair of keys to sign boxes or models with, and to verify them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from flatpack_build.box.keys import generate_key, require_free
from flatpack_build.box.model_signing import generate_ec_key
from flatpack_build.box.passphrase import passphrase_from
from flatpack_build.cli.here import current_project
from flatpack_build.errors import ManifestError

EPILOG = """\b
Examples:
  flatpack keygen                              asks for a passphrase
  flatpack keygen --development                a key for trying things out
  flatpack keygen ci.pem --passphrase-fd 3 3<secret.txt
"""

Command = TypeVar("Command", bound=Callable[..., object])


def passphrase_options(command: Command) -> Command:
    """Where a private key's passphrase comes from; the passphrase itself is never an argument."""
    for option in (
        click.option(
            "--passphrase-fd", type=click.IntRange(0), metavar="N", help="Take the passphrase from file descriptor N."
        ),
        click.option(
            "--passphrase-file",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="F",
            help="Take the passphrase from the first line of file F.",
        ),
    ):
        command = option(command)
    return command


@click.command(epilog=EPILOG)
@click.argument("path", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--ec", is_flag=True, help="Make an EC key (P-256) for OpenSSF model signatures instead.")
@click.option("--development", is_flag=True, help="Make a key without a passphrase, for trying things out.")
@passphrase_options
def keygen(
    path: Path | None, ec: bool, development: bool, passphrase_file: Path | None, passphrase_fd: int | None
) -> None:
    """Make a pair of RSA keys of 4096 bits: the private one at PATH (keys/signing.pem), the public one beside it.

    The private key is encrypted with a passphrase: that of --passphrase-file or --passphrase-fd, else the environment
    variable FLATPACK_PASSPHRASE, else one that is asked for. Files that exist are never replaced.

    With --ec: an EC key instead, at keys/model-signing.pem; model_signing_key in the settings makes builds use it.
    """
    if path is None:
        name = "model-signing" if ec else "development" if development else "signing"
        path = Path("keys", f"{name}.pem")
    require_free(path)  # before anybody thinks up a passphrase
    secret = None
    if not development:
        source = passphrase_from(os.environ, file=passphrase_file, descriptor=passphrase_fd)
        secret = source.read(str(path), confirm=True)
    elif passphrase_file is not None or passphrase_fd is not None:
        raise click.UsageError("a development key has no passphrase")
    key = (generate_ec_key if ec else generate_key)(path, passphrase=secret, development=development)
    files = [str(key.private), str(key.public)]
    width = max(map(len, files))
    secret_text = "keep it secret" + (", and never ship with it" if development else "")
    click.echo(f"private key  {files[0]:<{width}}   {secret_text}")
    click.echo(f"public key   {files[1]:<{width}}   give it to whoever verifies your boxes")
    click.echo(f"key id       {key.key_id}")
    setting = _missing_setting(key.private, "model_signing_key" if ec else "signing_key")
    if setting:
        click.echo(f"next         for builds to sign with it, in pyproject.toml under [tool.flatpack-build]: {setting}")


def _missing_setting(private: Path, name: str) -> str:
    """What to write for builds of the current project to sign with this key; empty where they do, or there is none."""
    try:
        project = current_project()
    except ManifestError:
        return ""  # whoever builds is told
    if project is None:
        return ""
    used = project.model_signing_key if name == "model_signing_key" else project.signing_key
    path = os.path.abspath(private)
    if used is not None and os.path.abspath(used) == path:
        return ""
    inside = Path(path).is_relative_to(project.root)
    return f'{name} = "{os.path.relpath(path, project.root) if inside else path}"'
