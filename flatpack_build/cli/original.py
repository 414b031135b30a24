"""The original Flatpack's scripts under their own names and options: compress and sign, verify, one or a warehouse."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from flatpack_build.cli.keys import passphrase_options
from flatpack_build.cli.progress import showing
from flatpack_build.errors import FlatpackError, UsageError
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.keys import PrivateKey, PublicKey

Command = TypeVar("Command", bound=Callable[..., object])
_FILE = click.Path(dir_okay=False, path_type=Path)


def _signing_options(command: Command) -> Command:
    for option in (
        click.option("-p", "--private_key", required=True, type=_FILE, help="The RSA key to sign with, in PEM."),
        click.option("--hash_size", type=click.Choice(["256", "384", "512"]), default="256", help="Of SHA-2."),
        click.option(
            "--passphrase", help="Do not use: everybody on this machine can read it. FLATPACK_PASSPHRASE is safe."
        ),
        passphrase_options,
    ):
        command = option(command)
    return command


@click.command()
@_signing_options
def bulk_compress_and_sign(
    private_key: Path,
    hash_size: str,
    passphrase: str | None,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Make and sign a box of each folder of the warehouse but "template", beside it: warehouse/NAME.fpk.

    Nothing is built: the folders are packed as they are.
    """
    from flatpack_build.box import sealing
    from flatpack_build.box.signature import SignatureHash

    warehouse = _warehouse()
    key = _key(private_key, passphrase, passphrase_file, passphrase_fd)
    folders = sorted(path for path in warehouse.iterdir() if path.is_dir() and path.name[0] != ".")
    folders = [folder for folder in folders if folder.name != "template"]
    failed = 0
    for folder in folders:
        box = warehouse / f"{folder.name}.fpk"
        try:
            with showing(f"signing {box.name}"):
                identity = sealing.identity_of_folder(folder)
                named = sealing.Identity(folder.name, identity.version, identity.target)
                sealing.seal_folder(folder, box, key, SignatureHash(f"sha{hash_size}"), named)
        except FlatpackError as error:
            failed += 1
            click.echo(f"{folder.name}: failed: {error.shown(os.getcwd())}", err=True)
        else:
            click.echo(f"{folder.name}: {os.path.relpath(box)}")
    click.echo(f"{len(folders) - failed} signed, {failed} failed, {len(folders)} in all")
    click.get_current_context().exit(1 if failed else 0)


@click.command()
@click.option("--public_key", required=True, type=_FILE, help="The public key of whoever signed them, in PEM.")
def bulk_verify(public_key: Path) -> None:
    """Verify every box of the warehouse."""
    from flatpack_build.box.container import find_boxes
    from flatpack_build.box.keys import load_public_key

    key = load_public_key(public_key)
    boxes = find_boxes([_warehouse()])
    failed = sum(not _verify(box, key) for box in boxes)
    click.echo(f"{len(boxes) - failed} verified, {failed} failed, {len(boxes)} in all")
    click.get_current_context().exit(1 if failed else 0)


@click.command()
@click.option("-i", "--input", "source", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=_FILE, help="The box; with --signed the payload without a signature.")
@click.option("-s", "--signed", type=_FILE, help="The box.")
@_signing_options
def compress_and_sign(
    source: Path,
    output: Path | None,
    signed: Path | None,
    private_key: Path,
    hash_size: str,
    passphrase: str | None,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Make a box of a folder, or of a single file, and sign it."""
    from flatpack_build.box import sealing
    from flatpack_build.box.signature import SignatureHash

    box = signed or output or Path(f"{Path(os.path.abspath(source)).name}.fpk")
    key = _key(private_key, passphrase, passphrase_file, passphrase_fd)
    hash = SignatureHash(f"sha{hash_size}")
    with showing(f"signing {box.name}"):
        if source.is_dir():
            sealing.seal_folder(source, box, key, hash, sealing.identity_of_folder(source))
        else:
            sealing.seal_file(source, box, key, hash)
        if signed and output:
            sealing.copy_payload(box, output)
    click.echo(f"signed {box}")


@click.command()
@click.option("-s", "--signed", "-i", "--input", "box", required=True, type=_FILE, help="The box.")
@click.option("-p", "--public_key", required=True, type=_FILE, help="The public key of whoever signed it, in PEM.")
def verify_signed(box: Path, public_key: Path) -> None:
    """Verify one box."""
    from flatpack_build.box.keys import load_public_key

    click.get_current_context().exit(0 if _verify(box, load_public_key(public_key)) else 1)


def _verify(box: Path, key: PublicKey) -> bool:
    from flatpack_build.box.policy import policy_of_keys
    from flatpack_build.cli.verify import judge

    verdict = judge(box, policy_of_keys([key]))
    if verdict.error:
        click.echo(printable(f"{os.path.relpath(box)}: FAILED: {verdict.error.message}"))
        return False
    click.echo(printable(f"{os.path.relpath(box)}: verified"))
    return True


def _warehouse() -> Path:
    from flatpack_build.project import find_project

    warehouse = find_project(Path.cwd()).warehouse
    if not warehouse.is_dir():
        raise UsageError(f"there is no warehouse at {warehouse}", hint="run this in a flatpack project")
    return warehouse


def _key(private: Path, passphrase: str | None, file: Path | None, descriptor: int | None) -> PrivateKey:
    from flatpack_build.box.keys import load_private_key
    from flatpack_build.box.passphrase import VARIABLE, passphrase_from

    environment = dict(os.environ)
    if passphrase is not None:
        click.echo(
            "warning: what is given to --passphrase stands in the process list and in the shell's history, where others "
            "can read it; set FLATPACK_PASSPHRASE, use --passphrase-file, or leave it out and be asked",
            err=True,
        )
        environment[VARIABLE] = passphrase
    return load_private_key(private, passphrase_from(environment, file=file, descriptor=descriptor))


def _run(command: click.Command) -> None:
    from flatpack_build.cli import run_command

    run_command(command)


def main_bulk_compress_and_sign() -> None:
    """``bulk_compress_and_sign_fpk.py``."""
    _run(bulk_compress_and_sign)


def main_bulk_verify() -> None:
    """``bulk_verify_signed_data_with_cli.py``."""
    _run(bulk_verify)


def main_compress_and_sign() -> None:
    """``compress_and_sign_fpk.py``."""
    _run(compress_and_sign)


def main_verify() -> None:
    """``verify_signed_data_with_cli.py``."""
    _run(verify_signed)
