"""Runs one declared build step over a copy of its declared inputs and hands on its declared outputs, nothing else.

Knows the manifest's words ``inputs`` and ``outputs`` for its hints; must not know how the sandbox works.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import re
import shutil
import signal
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from flatpack_build import events, fs
from flatpack_build.errors import StepError
from flatpack_build.params import RunParams
from flatpack_build.patterns import covers
from flatpack_build.sandbox import EPOCH, Kind, SandboxResult, bubblewrap_problem, run_in_sandbox

_OWN = "files"
_SHOWN_LINES = 20
_SHOWN_NAMES = 8
_NO_NETWORK = re.compile(
    r"network is unreachable|name resolution|could not resolve host|name or service not known|connection refused", re.I
)
# Python writes these beside what it runs. They are no one's output, and asking to declare them would only annoy.
_IGNORED_FOLDER = "__pycache__"


def run(params: RunParams, inputs: Mapping[str, Path], out: Path, *, kind: Kind | None = None) -> None:
    """Run ``params.command`` over a copy of the input trees; its declared outputs become ``out``.

    Input ``files`` are the flatpack's own files, the others what other build steps made; all lie in one folder.
    An output is a path or a pattern as in ``patterns``; a folder means everything in it. An input that is declared as
    an output may be changed. ``kind`` asks for one sandbox; the default is the best that works here.
    Raises ``StepError`` when the command fails, an output is missing or no plain file, or something else was changed.
    """
    with fs.temporary_folder(out.parent, prefix=".run-") as work:
        staged = work / "files"
        staged.mkdir()
        try:
            given = _stage(params, inputs, staged)
            _check(params, _run(params, staged, kind), staged)
            made = dict(fs.walk_files(staged))
            _refuse_undeclared(params, given, made)
            _collect(params, made, staged, out)
        except OSError as error:
            raise StepError(
                f"build step {params.name!r} could not be carried out: {error.strerror or error}"
                + (f" ({error.filename})" if error.filename else ""),
                hint="let the command nest its folders less deeply"
                if error.errno == errno.ENAMETOOLONG
                else "check the free space and the permissions of the build folder",
            ) from error


def _run(params: RunParams, staged: Path, kind: Kind | None) -> SandboxResult:
    timeout = params.timeout_seconds or None
    return run_in_sandbox(params.command, folder=staged, environment=params.environment, timeout=timeout, kind=kind)


def _declared(params: RunParams, name: str) -> bool:
    return any(covers(output, name) for output in params.outputs)


def _stage(params: RunParams, inputs: Mapping[str, Path], staged: Path) -> dict[str, Path]:
    """Copy the inputs, with one fixed time on every file. Returns path -> the input it came from.

    What another build step made wins over the flatpack's own file of that path.
    """
    given: dict[str, Path] = {}
    maker: dict[str, str] = {}
    for label in sorted(inputs, key=lambda label: (label != _OWN, label)):
        for name, entry in fs.walk_files(inputs[label]):
            target = staged / name
            if name.endswith("/"):
                target.mkdir(parents=True, exist_ok=True)
                continue
            source = Path(entry.path)
            if name in given:
                if maker[name] != _OWN and not _same(given[name], entry):
                    raise StepError(
                        f"build step {params.name!r} gets two different files {name}: {maker[name]} and {label}",
                        hint="let one of these steps write it under another name",
                    )
                target.unlink()
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.copy_file(source, target, mode=0o755 if _executable(source.stat()) else 0o644)
            os.utime(target, (EPOCH, EPOCH))
            given[name], maker[name] = source, label
    return given


def _check(params: RunParams, result: SandboxResult, staged: Path) -> None:
    if result.kind == "bubblewrap":
        events.note(f"build step {params.name!r} ran in bubblewrap, without network")
    else:
        events.note(
            f"build step {params.name!r} ran in a staged folder with a scrubbed environment; network and other files "
            f"were within its reach ({bubblewrap_problem() or 'bubblewrap was not asked for'})"
        )
    if result.status == 0:
        return
    lines = result.output.rstrip().splitlines()[-_SHOWN_LINES:]
    printed = "".join(f"\n  | {line}" for line in lines) or ": it printed nothing"
    if result.status is None:
        raise StepError(
            f"build step {params.name!r} took longer than its timeout_seconds = {params.timeout_seconds:g} and was "
            f"stopped{printed}",
            hint=f"give it more time in [build.{params.name}], or see what holds it up: it has no input and no network",
        )
    ended = f"exit status {result.status}"
    if result.status > 128:
        with contextlib.suppress(ValueError):  # it may be a status of the command's own choice
            ended += f", {signal.Signals(result.status - 128).name}"
    if os.strerror(errno.ENOSPC) in result.output or fs.disk_is_full(staged):
        hint = f"free some space on the disk of {staged}; what is written to $TMPDIR takes memory instead"
    elif _NO_NETWORK.search(result.output):
        hint = "build steps have no network: let the build fetch it with [[file]], [[git]] or [packages.python]"
    elif result.status == 127:
        hint = "a step finds the programs in /usr/bin and beside the running python; scripts need their path: sh x.sh"
    else:
        hint = "a step sees only copies of its declared inputs: add what it needs to inputs = [...]"
    raise StepError(f"build step {params.name!r} failed ({ended}){printed}", hint=hint)


def _refuse_undeclared(params: RunParams, given: Mapping[str, Path], made: Mapping[str, os.DirEntry[str]]) -> None:
    def undeclared(names: Iterable[str]) -> list[str]:
        return [name for name in names if not _declared(params, name)]

    created = undeclared(
        name
        for name in made
        if name not in given and not name.endswith("/") and _IGNORED_FOLDER not in name.split("/")[:-1]
    )
    deleted = undeclared(name for name in given if name not in made)
    changed = [name for name in undeclared(given) if name in made and not _same(given[name], made[name])]
    for names, what in ((created, "made"), (changed, "changed"), (deleted, "deleted")):
        if names:
            shown = ", ".join(names[:_SHOWN_NAMES]) + (
                f" and {len(names) - _SHOWN_NAMES} more" * (len(names) > _SHOWN_NAMES)
            )
            quoted = ", ".join(f'"{name}"' for name in names[:_SHOWN_NAMES])
            remedy = {
                "made": f"add it to outputs = [{quoted}], or write it below $TMPDIR",
                "changed": f"add it to outputs = [{quoted}], or work on a copy below $TMPDIR",
                "deleted": "leave the inputs in place: what is not an output does not go into the box anyway",
            }[what]
            raise StepError(f"build step {params.name!r} {what} files that are not its outputs: {shown}", hint=remedy)


def _same(source: Path, entry: os.DirEntry[str]) -> bool:
    after = entry.stat(follow_symlinks=False)
    return (
        stat.S_ISREG(after.st_mode)
        and _executable(after) == _executable(source.stat())
        and filecmp.cmp(source, entry.path, shallow=False)
    )


def _collect(
    params: RunParams,
    made: Mapping[str, os.DirEntry[str]],
    staged: Path,
    out: Path,
) -> None:
    """Move what is declared to ``out``, under the same relative paths."""
    missing = [output for output in params.outputs if not any(covers(output, name) for name in made)]
    if missing:
        raise StepError(
            f"build step {params.name!r} did not make its declared output {', '.join(missing)}",
            hint="make the command write it, or correct outputs = [...]: paths are relative to the flatpack's folder",
        )
    names = [name for name in made if _declared(params, name)]
    for name in names:
        _refuse_odd(params, name, made[name], staged)
    # Links first, while what they point to is still in its place.
    for name in sorted(names, key=lambda name: not made[name].is_symlink()):
        target = out / name
        if name.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        entry = made[name]
        mode = 0o755 if _executable(entry.stat()) else 0o644
        if entry.is_symlink() or entry.stat().st_nlink > 1:
            shutil.copyfile(entry.path, target)
        else:
            os.replace(entry.path, target)
        os.chmod(target, mode)


def _refuse_odd(params: RunParams, name: str, entry: os.DirEntry[str], staged: Path) -> None:
    """Only plain files and folders go on, and links to a file among them (as that file)."""
    what = f"build step {params.name!r}: the output {os.fsencode(name).decode(errors='replace')}"
    try:
        name.encode()
    except UnicodeEncodeError:
        raise StepError(f"{what} has a name that is not UTF-8", hint="give it another name") from None
    if entry.is_symlink():
        link = Path(entry.path).readlink()
        real = Path(os.path.realpath(entry.path))  # Path.resolve() raises at a link to itself
        if link.is_absolute():
            raise StepError(f"{what} is a link to the absolute path {link}", hint="link relatively (ln -s -r), or copy")
        if not real.is_relative_to(staged.resolve()):
            raise StepError(f"{what} is a link that leads out of the folder, to {link}", hint="copy the file instead")
        if not real.exists():
            raise StepError(f"{what} is a link to {link}, which does not exist", hint="make the file it points to")
        if not real.is_file():
            raise StepError(f"{what} is a link to {link}, which is no file", hint="copy the folder instead (cp -R)")
    elif not entry.is_file() and not entry.is_dir():
        raise StepError(f"{what} is a pipe, socket or device", hint="write a plain file")


def _executable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IXUSR)
