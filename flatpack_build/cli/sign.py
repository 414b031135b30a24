"""``flatpack sign``: a box out of a folder or a payload, or the same box with another signature."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.cli.here import current_project, policy_here
from flatpack_build.cli.keys import passphrase_options
from flatpack_build.cli.progress import showing
from flatpack_build.cli.text import bytes_text
from flatpack_build.errors import BoxError, KeyFileError, Place
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.keys import PrivateKey

EPILOG = """\b
Examples:
  flatpack sign my-folder -o my.fpk --key keys/signing.pem
  flatpack sign dist/chat-0.1.0-pi5.fpk -o release/chat-pi5.fpk --key keys/release.pem
"""


@click.command(epilog=EPILOG)
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="BOX",
    help="Where the box goes.  [default: NAME-VERSION-TARGET.fpk here; a box is signed again in its place]",
)
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PRIVATE.pem",
    help="The key to sign with.  [default: the project's signing key, or FLATPACK_SIGNING_KEY]",
)
@click.option("--hash", "hash_name", type=click.Choice(["sha256", "sha384", "sha512"]), default="sha256")
@click.option("--target", help="The target that a folder's box says it is for.  [default: any]")
@passphrase_options
def sign(
    source: Path,
    output: Path | None,
    key: Path | None,
    hash_name: str,
    target: str | None,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Sign INPUT: a folder, a payload (.tar.zst) or a box.

    A folder is packed with a list of its files. Of a box, the payload stays as it is and gets a new signature; its old
    one must be of a trusted key, since whoever signs vouches for what is inside.
    """
    import dataclasses

    # These bring cryptography and zstandard: not for --help.
    from flatpack_build.box import sealing
    from flatpack_build.box.container import sign_payload
    from flatpack_build.box.signature import SignatureHash
    from flatpack_build.box.trust import judge_box

    kind, size = sealing.kind_of_input(source)
    if kind == "file":
        raise BoxError(
            "this is neither a folder nor a payload nor a box", place=Place(str(source)), hint="put it into a folder"
        )
    if target is not None and kind != "folder":
        raise click.UsageError("--target is for folders: a payload says itself what it is for")
    if kind == "folder":
        identity: sealing.Identity | None = sealing.identity_of_folder(source)
        if target and identity:
            identity = dataclasses.replace(identity, target=target)
    else:
        identity = sealing.identity_of_box(source)
    judged = None
    if kind == "box":
        judgement = judge_box(source, policy_here())
        judged = judgement.verified
        if judgement.warning:
            click.echo(printable(f"warning: {judgement.warning}"), err=True)
    box = output or (source if kind == "box" else Path(identity.file_name if identity else f"{source.stem}.fpk"))
    hash = SignatureHash(hash_name)
    private = signing_key(key, passphrase_file, passphrase_fd)
    with showing(f"signing {box.name}"):
        if kind == "folder":
            assert identity is not None
            sealing.seal_folder(source, box, private, hash, identity)
        else:
            sign_payload(source, box, private, hash, size=size, judged=judged)
    mark = " (development)" if private.development else ""
    click.echo(printable(f"signed {box}: {bytes_text(box.stat().st_size)}, key {private.key_id[:12]}{mark}"))


def signing_key(key: Path | None, passphrase_file: Path | None = None, passphrase_fd: int | None = None) -> PrivateKey:
    """Unlock the key to sign with: ``key``, else the project's. Raises ``KeyFileError``."""
    from flatpack_build.box.keys import load_private_key  # brings cryptography: not for --help
    from flatpack_build.box.passphrase import passphrase_from

    if key is None:
        project = current_project()
        if project is not None:
            key = project.signing_key
        elif named := os.environ.get("FLATPACK_SIGNING_KEY"):
            key = Path(named)
        else:
            raise KeyFileError("there is no key to sign with", hint="--key PRIVATE.pem, or FLATPACK_SIGNING_KEY")
    return load_private_key(key, passphrase_from(os.environ, file=passphrase_file, descriptor=passphrase_fd))
