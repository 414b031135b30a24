"""``flatpack watch``: builds, and builds again whenever something changes that the flatpack is made from.

Each build is a process of its own, as if it had been typed: what a native library breaks, a ``dodo.py`` that was edited, a
package that was just upgraded, all that begins anew with the next one. Starting it costs some tenths of a second.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from flatpack_build.errors import ManifestError, PlanError, UsageError
from flatpack_build.naming import flatpack_name
from flatpack_build.plain import printable
from flatpack_build.project import Project, find_project

_NAMED = 2
_LISTED = 8
_LAST_LINES = 20
_GRACE = 2.0  # seconds: on a terminal Ctrl-C reaches the build as well, and it ends by itself
_LAST_WORDS = 10.0


@dataclass(frozen=True)
class _Line:
    """What is needed here of a line of the build's record."""

    action: str
    step: str
    state: str
    error: str


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME[@TARGET]]...")
@click.option("-n", "--jobs", type=click.IntRange(min=1), help="Actions to run at once.  [default: one for each core]")
@click.option("--locked", is_flag=True, help="Never make flatpack.lock.")
def watch(names: tuple[str, ...], jobs: int | None, locked: bool) -> int:
    """Build flatpacks, and again whenever one of their files, a profile or a setting changes. Ctrl-C ends it.

    Without a name: all flatpacks of the warehouse.

    \b
    Examples:
      flatpack watch my-flatpack
      flatpack watch my-flatpack@pi5
    """
    from flatpack_build.watching import Watch, what_to_watch  # brings the planner: not for --help

    project = find_project(Path.cwd())
    names = tuple(flatpack_name(project, name) for name in names) or tuple(project.flatpacks())
    if not names:
        raise UsageError("there is no flatpack to watch", hint="flatpack create makes one")
    flatpacks = list(dict.fromkeys(name.partition("@")[0] for name in names))
    watched = what_to_watch(project, flatpacks)
    _refuse_unknown_targets(project, names)
    flags = [*(["-n", str(jobs)] if jobs else []), *(["--locked"] if locked else [])]
    environment = _environment(project)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="flatpack-watch-") as folder:
            record = Path(folder, "record.jsonl")
            command = [sys.executable, "-P", "-m", "flatpack_build", "build", *flags, "--record", str(record), *names]
            unlocked = {place / "flatpack.lock" for place in watched.folders if not (place / "flatpack.lock").exists()}
            watching = Watch(watched)
            watching.start()
            _wait(subprocess.Popen(command, cwd=project.root, env=environment))
            watched_names = ", ".join(flatpacks) if len(flatpacks) <= _LISTED else f"{len(flatpacks)} flatpacks"
            click.echo(f"\nwatching {watched_names}; Ctrl-C ends it")
            for burst in watching.changes():
                changed, unlocked = burst - unlocked, set()  # the first build made these itself
                if changed:
                    _rebuild(command, project, environment, record, _told(changed, project, watched.folders))
    except KeyboardInterrupt:
        click.echo("\nwatching has ended")
    return 0


def _refuse_unknown_targets(project: Project, names: Collection[str]) -> None:
    """Raises ``UsageError`` for a target that a manifest does not name; one that is broken may be mended while watching."""
    from flatpack_build.planner import Planner  # not for --help

    planner = Planner(project, keep=False)
    for name in names:
        flatpack, _, target = name.partition("@")
        if target:
            with contextlib.suppress(ManifestError, PlanError):
                known = planner.targets(flatpack).names
                if target not in known:
                    raise UsageError(f"{flatpack} is not built for {target!r}", hint=f"its targets: {', '.join(known)}")


def _environment(project: Project) -> Mapping[str, str]:
    """What builds get. A passphrase that has to be asked for is asked for here, once. Raises ``KeyFileError``."""
    from flatpack_build.box.keys import load_private_key  # brings cryptography: not for --help
    from flatpack_build.box.passphrase import VARIABLE, passphrase_from
    from flatpack_build.box.signer import KeySigner

    answers: list[str] = []
    passphrase = passphrase_from(os.environ, options=False)
    prompt = passphrase.ask

    def ask(question: str) -> str:
        assert prompt is not None, "asked only where there is a terminal"
        answers.append(prompt(question))
        return answers[-1]

    _ = KeySigner(project.signing_key, project.public_key).key_id
    load_private_key(project.signing_key, replace(passphrase, ask=ask if prompt else None))
    return {**os.environ, **({VARIABLE: answers[-1]} if answers else {})}


def _rebuild(command: Sequence[str], project: Project, environment: Mapping[str, str], record: Path, why: str) -> None:
    record.unlink(missing_ok=True)
    now = datetime.datetime.now().strftime("%H:%M:%S")
    start = time.monotonic()
    live = sys.stdout.isatty()
    if live:
        click.echo(f"{now} building  ({why})", nl=False)
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said, complained = _wait(process)
    spent = time.monotonic() - start
    lines = _read(record)
    if live:
        click.echo("\r\x1b[K", nl=False)
    if process.returncode == 0:
        click.echo(f"{now} {_summary(lines, spent)}  ({why})")
        return
    click.echo(f"{now} FAILED in {spent:.1f} s  ({why})")
    click.echo("  " + _why_failed(process.returncode, lines, said, complained).replace("\n", "\n  "))


def _wait(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> tuple[str, str]:
    """Until it ends; what it said and what it complained about, where that is caught. Takes it along on Ctrl-C."""
    try:
        said, complained = process.communicate()
    except KeyboardInterrupt:
        for patience, kill in ((_GRACE, signal.SIGINT), (_LAST_WORDS, signal.SIGKILL)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
            if process.poll() is None:
                process.send_signal(kill)
        process.wait()
        raise
    return str(said or ""), str(complained or "")


def _read(record: Path) -> list[_Line]:
    try:
        values = [json.loads(line) for line in record.read_text().splitlines()]
    except (OSError, ValueError):
        return []  # it died before it could report
    return [_Line(value["action"], value["step"], value["state"], value["error"]) for value in values]


def _summary(lines: Sequence[_Line], seconds: float) -> str:
    """``index, pack: 2 boxes in 0.6 s``."""
    steps = list(dict.fromkeys(line.step for line in lines if line.state == "built"))
    boxes = sum(line.step == "pack" and line.state in ("built", "cached") for line in lines)
    counted = f"{boxes} box{'es' if boxes > 1 else ''}" if boxes else "no box is different"
    if steps or boxes:
        return f"{', '.join(steps) or 'from the cache'}: {counted} in {seconds:.1f} s"
    return f"nothing to do, in {seconds:.1f} s"


def _why_failed(status: int, lines: Sequence[_Line], said: str, complained: str) -> str:
    errors = [printable(f"{line.action}: {line.error}") for line in lines if line.state == "failed"]
    if errors:
        return "\n".join(errors)
    if complained.strip():
        return complained.strip().removeprefix("ERROR: ").removeprefix("error: ")
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"the build was killed by {signal.Signals(-status).name}"
    return "\n".join(said.rstrip().splitlines()[-_LAST_LINES:]) or f"the build ended with status {status}"


def _told(changed: Collection[Path], project: Project, folders: Sequence[Path]) -> str:
    """``README.md changed``."""
    top = [folders[0]] if len(folders) == 1 else []
    names = []
    for path in sorted(changed):
        base = next((base for base in (*top, project.root) if path != base and path.is_relative_to(base)), None)
        names.append(os.fspath(path.relative_to(base) if base else path))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} changed"
