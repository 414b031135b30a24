"""Runs steps on this machine: light ones in place, those with native libraries in a process of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flatpack_build.errors import ERROR_TYPES, CrashError, FlatpackError, Place, StepError
from flatpack_build.events import Listener, listening
from flatpack_build.executor.protocol import Execution, Job
from flatpack_build.sandbox import best_kind
from flatpack_build.steps.table import step_function

_CHILD = "flatpack_build.executor.child"
_LOG_LINES = 20
_LAST_WORDS = 10.0  # seconds
_SECRETS = ("FLATPACK_PASSPHRASE",)
_KEPT = ("PATH", "HOME", "USER", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_SIGNAL_HINTS = {
    signal.SIGKILL: "the system probably ran out of memory: close programs, or build fewer things at once (doit -n 1)",
    signal.SIGILL: "a native library was built for another CPU: set up again with portable builds (docs/install.md)",
    signal.SIGSEGV: "a native library crashed: check its input, and that it was built portably (docs/install.md)",
    signal.SIGABRT: "a native library gave up: the log above says why",
    signal.SIGBUS: "a file changed or the disk filled up while it was read: free some space and build again",
}


class _Collector:
    """Passes events on and keeps the notes."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.notes: list[str] = []

    def progress(self, done: int, total: int | None, unit: str) -> None:
        self._listener.progress(done, total, unit)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._listener.note(text)


@dataclass(frozen=True)
class Conditions:
    """What steps are put into on purpose, to see whether it matters: environment variables, the umask, and a command
    that runs another (``faketime``)."""

    variables: Mapping[str, str]
    umask: int
    command: tuple[str, ...] = ()


class LocalExecutor:
    """An ``Executor``. ``environment`` is what fetching may see; other steps get only a few variables out of it.

    With ``conditions`` every step runs in a process of its own.
    """

    def __init__(self, environment: Mapping[str, str], *, conditions: Conditions | None = None) -> None:
        self._environment = {name: value for name, value in environment.items() if name not in _SECRETS}
        self._conditions = conditions

    def run(self, job: Job, listener: Listener) -> Execution:
        collector = _Collector(listener)
        start = time.monotonic()
        if job.params.isolated or self._conditions is not None:
            peak = self._in_child(job, collector)
        else:
            peak = 0
            try:
                with listening(collector):
                    self._in_place(job)
            except OSError as error:
                raise StepError(f"{job.name}: {error}", hint="check the disk and its permissions") from error
        where = f"local, {best_kind()}" if job.params.step == "run" else "local"
        return Execution(time.monotonic() - start, peak, tuple(collector.notes), where)

    def _in_place(self, job: Job) -> None:
        step = step_function(job.params.step)
        if job.around is None:
            step(job.params, job.inputs, job.out)
        else:
            # The sandbox and its words are needed only where such a step runs, not on the way to "nothing to do".
            from flatpack_build.executor.declared import run_declared

            trace = self._environment.get("FLATPACK_TRACE", "") not in ("", "0")
            run_declared(step, job, job.around, trace=trace)

    def _child_environment(self, step: str) -> dict[str, str]:
        if step == "fetch":
            return dict(self._environment)
        kept = {name: self._environment[name] for name in _KEPT if name in self._environment}
        wanted = self._conditions.variables if self._conditions is not None else {}
        return {**kept, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", **wanted}

    def _in_child(self, job: Job, collector: _Collector) -> int:
        request = job.out.parent / "request.json"
        request.write_text(
            json.dumps(
                {
                    "step": job.params.step,
                    "params": job.params.to_json(),
                    "inputs": {name: os.fspath(path) for name, path in job.inputs.items()},
                    "out": os.fspath(job.out),
                }
            )
        )
        log = job.out.parent / "log"
        temporary = job.out.parent / "tmp"  # goes when the job's folder goes, whatever the step leaves in it
        temporary.mkdir()
        before = self._conditions.command if self._conditions is not None else ()
        events, events_end = os.pipe()
        with open(log, "wb") as log_file, open(events, encoding="utf-8") as stream:
            try:
                process = subprocess.Popen(
                    [*before, sys.executable, "-P", "-m", _CHILD, os.fspath(request), str(events_end)],
                    stdin=subprocess.PIPE,
                    stdout=log_file,
                    stderr=log_file,
                    pass_fds=(events_end,),
                    cwd=job.out.parent,
                    env={**self._child_environment(job.params.step), "TMPDIR": os.fspath(temporary)},
                    umask=self._conditions.umask if self._conditions is not None else -1,
                )
            finally:
                os.close(events_end)
            try:
                outcome = self._listen(stream, collector)
                if outcome is None:  # it is dying: let it write its last words
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_LAST_WORDS)
            finally:
                if process.stdin is not None:
                    with contextlib.suppress(OSError):
                        process.stdin.close()  # from here on the child ends, whatever it is doing
                process.wait()
        if isinstance(outcome, FlatpackError):
            raise outcome
        if outcome is None:
            raise self._crash(job, process.returncode, log)
        return outcome

    @staticmethod
    def _listen(stream: IO[str], collector: _Collector) -> int | FlatpackError | None:
        """Peak memory in bytes when it went well, the error when the step raised one, ``None`` when it said nothing."""
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                return None  # cut in the middle of a line: the process died
            if event["event"] == "progress":
                collector.progress(event["done"], event["total"], event["unit"])
            elif event["event"] == "note":
                collector.note(event["text"])
            elif event["event"] == "error":
                place = Place(*event["place"]) if event["place"] else None
                return ERROR_TYPES.get(event["type"], StepError)(event["message"], place=place, hint=event["hint"])
            else:
                return int(event["peak_memory"])
        return None

    @staticmethod
    def _crash(job: Job, status: int, log: Path) -> CrashError:
        tail: list[str] = []
        with contextlib.suppress(OSError):
            tail = log.read_bytes()[-16384:].decode(errors="replace").splitlines()[-_LOG_LINES:]
        lines = "".join(f"\n  | {line}" for line in tail if line.strip())
        if status < 0:
            try:
                number = signal.Signals(-status)
                why = f"was killed by {number.name} ({signal.strsignal(number)})"
                hint = _SIGNAL_HINTS.get(number, "")
            except ValueError:
                why, hint = f"was killed by signal {-status}", ""
        else:
            why, hint = (
                f"ended with status {status} and no result",
                "this is a bug in the step: please report the lines above",
            )
        return CrashError(f"the process of step {job.params.step!r} {why}{lines}", hint=hint)
