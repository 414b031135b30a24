"""``flatpack unbox``: unpack a box into a folder, when it may be trusted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flatpack_build.cli.here import current_project, keys_option, policy_here
from flatpack_build.cli.progress import showing
from flatpack_build.cli.text import bytes_text
from flatpack_build.errors import BoxError, Place, UsageError
from flatpack_build.plain import printable

if TYPE_CHECKING:
    from flatpack_build.box.extract import Unpacked
    from flatpack_build.box.trust import Judgement
    from flatpack_build.project import Project

EPILOG = """\b
Examples:
  flatpack unbox dist/chat-0.1.0-pi5.fpk                    into ./chat
  flatpack unbox chat.fpk --key vendor.pub.pem --to /srv/chat
  flatpack unbox chat --local                               the newest box for this machine, from here or dist/
"""
_SUFFIX = ".fpk"
_NAME = re.compile(r"[\w-]+")


@click.command(epilog=EPILOG)
@click.argument("box", metavar="BOX|NAME", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="The folder to make.  [default: one named after the flatpack, here]",
)
@keys_option
@click.option("--replace", is_flag=True, help="Swap a folder that was unboxed before for the new one.")
@click.option(
    "--local", is_flag=True, help="Look for a box of the flatpack NAME in this folder and in the dist folder."
)
@click.option("--target", help="With --local: the target to take.  [default: what fits this machine]")
@click.option(
    "--allow-unlisted", is_flag=True, help="Also unpack boxes of the original Flatpack, which have no list of files."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def unbox(
    box: Path,
    folder: Path | None,
    keys: tuple[Path, ...],
    replace: bool,
    local: bool,
    target: str | None,
    allow_unlisted: bool,
    as_json: bool,
) -> None:
    """Unpack BOX into a folder named after its flatpack, when a trusted key signed it.

    Its signature is checked before anything is written, and every file against the list in it. The folder appears when
    all of it is right, or not at all. Whom to trust: flatpack trust list.
    """
    from flatpack_build.box.contents import open_box  # these bring cryptography and zstandard: not for --help
    from flatpack_build.box.extract import extract_open_box
    from flatpack_build.box.landing import check_target
    from flatpack_build.box.trust import judge_open_box

    if target is not None and not local:
        raise click.UsageError("--target goes with --local: a box file is for one target")
    wanted = None
    if local:
        wanted = str(box)
        box = _local_box(wanted, target)
    elif _is_name(box):
        raise UsageError(
            f"there is no box file {str(box)!r} here",
            hint=f"name the file, or take a box that lies here: flatpack unbox {box} --local",
        )
    policy = policy_here(keys)
    if folder is not None:
        check_target(folder, replace=replace)  # before a large box is read
    with _interruptible(), open_box(box) as file:
        single = box.name.removesuffix(_SUFFIX)
        with showing(f"checking {box.name}"):
            judgement = judge_open_box(file, policy)
        if wanted is not None and judgement.flatpack != wanted:
            raise BoxError(f"the box holds {judgement.flatpack!r} by now, not {wanted!r}")
        if judgement.warning:
            click.echo(printable(f"warning: {judgement.warning}"), err=True)
        to = folder or _folder_of(judgement, single)
        if replace:
            _require_unboxed(to, judgement.flatpack)
        with showing(f"unpacking {box.name}"):
            unpacked = extract_open_box(
                file,
                judgement.verified,
                judgement.manifest,
                to,
                name=single,
                replace=replace,
                allow_unlisted=allow_unlisted,
            )
    if as_json:
        click.echo(json.dumps(_as_json(box, to, judgement, unpacked), indent=2))
    else:
        _print(box, to, judgement, unpacked)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this as Ctrl-C does: what was begun is removed first. What nohup set stays."""
    before = {ending: signal.getsignal(ending) for ending in (signal.SIGTERM, signal.SIGHUP)}
    for ending, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(ending, signal.default_int_handler)
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def _is_name(box: Path) -> bool:
    return _NAME.fullmatch(str(box)) is not None and not box.is_file()


def _local_box(flatpack: str, target: str | None) -> Path:
    # These bring pydantic, and are needed for names only.
    from flatpack_build.local_boxes import best_box, boxes_of
    from flatpack_build.resources import builtin_folder
    from flatpack_build.targets import host_profile

    if not _NAME.fullmatch(flatpack):
        raise UsageError(f"{flatpack!r} is not the name of a flatpack", hint="leave --local out to unbox a file")
    project = current_project()
    folders = [Path.cwd(), project.dist if project else Path.cwd() / "dist"]
    boxes = boxes_of(flatpack, folders)
    if not boxes:
        listed = " or ".join(os.path.relpath(folder) for folder in dict.fromkeys(folders)).replace(
            ".", "this folder", 1
        )
        raise BoxError(f"there is no box of the flatpack {flatpack!r} in {listed}", hint=_where_else(flatpack, project))
    profiles = (builtin_folder("targets"), *((project.targets,) if project else ()))
    return best_box(boxes, host_profile(), profiles, target).path


def _where_else(flatpack: str, project: Project | None) -> str:
    """What to do where there is no box of that name."""
    from flatpack_build.manifest.wording import did_you_mean

    known = project.flatpacks() if project else []
    if flatpack in known:
        return f"make one: doit build:{flatpack}"
    return f"name its file{did_you_mean(flatpack, known)}"


def _folder_of(judgement: Judgement, single: str) -> Path:
    """Where the box goes when nobody says it: a folder of the current one."""
    name = judgement.flatpack or single
    if not _NAME.fullmatch(name):
        raise UsageError("the box does not say which flatpack it is", hint="say where it shall go: --to FOLDER")
    return Path(name)


def _require_unboxed(folder: Path, flatpack: str | None) -> None:
    """Whatever else stands there is nobody's to remove: a warehouse's flatpack, say, of which this is the only copy."""
    from flatpack_build.box.extract import unboxed_flatpack  # as above

    if not folder.is_dir() or not any(folder.iterdir()):
        return
    there = unboxed_flatpack(folder)
    if there is None or there != flatpack:
        what = f"it holds the flatpack {there!r}" if there else "it was not unboxed from a box"
        raise BoxError(
            f"the folder is not replaced: {what}", place=Place(str(folder)), hint="remove it yourself, or use --to"
        )


def _print(box: Path, folder: Path, judgement: Judgement, unpacked: Unpacked) -> None:
    manifest, verified = judgement.manifest, judgement.verified
    name = judgement.flatpack or box.name
    about = f" {manifest.version} for {manifest.target}" if manifest else ", without a list of files"
    key = "nobody looked"
    if judgement.looked_at:
        key = verified.key_id[:12] if verified else "an unknown key"
        key += ", a development key" if verified and verified.development else ""
        key += f", trusted as {judgement.trusted.described}" if judgement.trusted else ", NOT TRUSTED"
    count = f"{unpacked.files:,} file{'s' * (unpacked.files != 1)}"
    click.echo(printable(f"box         {os.path.relpath(box)}, {bytes_text(box.stat().st_size)}"))
    click.echo(printable(f"unboxed     {name}{about}: {count}, {bytes_text(unpacked.size)}"))
    click.echo(printable(f"signed by   {key}"))
    click.echo(printable(f"folder      {folder}"))
    if (folder / "build.sh").is_file():
        click.echo(printable(f"next        cd {shlex.quote(str(folder))} && ./build.sh    (on the device: sets it up)"))
    elif (folder / "README.md").is_file():
        click.echo(printable(f"next        read {folder / 'README.md'}"))


def _as_json(box: Path, folder: Path, judgement: Judgement, unpacked: Unpacked) -> dict[str, object]:
    manifest, verified = judgement.manifest, judgement.verified
    return {
        "box": str(box),
        "folder": str(folder.absolute()),
        "flatpack": judgement.flatpack,
        "version": manifest.version if manifest else None,
        "target": manifest.target if manifest else None,
        "payload": manifest.digest if manifest else None,
        "files": unpacked.files,
        "size": unpacked.size,
        "key": verified.key_id if verified else None,
        "development_key": verified.development if verified else None,
        "trusted_as": judgement.trusted.name if judgement.trusted else None,
        "warning": judgement.warning or None,
    }
