"""The process that runs one step: ``python -m flatpack_build.executor.child <request file> <descriptor>``.

Knows only that request. Events and the result go to the descriptor as JSON lines. Standard input is a pipe that the
builder holds open: when it closes, the builder is dead and so is this process. Standard output and error are a log that
is shown when the step fails.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TextIO

from flatpack_build.errors import FlatpackError
from flatpack_build.events import listening
from flatpack_build.params import params_from_json
from flatpack_build.steps.table import step_function


class _Pipe:
    """Sends events up, at most about twenty progress lines a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last = 0.0

    def send(self, **event: object) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()

    def progress(self, done: int, total: int | None, unit: str) -> None:
        now = time.monotonic()
        if now - self._last >= 0.05 or done == total:
            self._last = now
            self.send(event="progress", done=done, total=total, unit=unit)

    def note(self, text: str) -> None:
        self.send(event="note", text=text)


_PR_SET_PDEATHSIG = 1  # linux/prctl.h: a signal for when the parent dies


def _die_with_builder() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def _follow_builder() -> None:
    """Die when the builder does: by the kernel's hand where it can, since a native library may hold this process up."""
    threading.Thread(target=_die_with_builder, daemon=True).start()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def peak_memory() -> int:
    """The most memory this process has had in use, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def main() -> None:
    faulthandler.enable()
    _follow_builder()
    events = int(sys.argv[2])
    os.set_inheritable(events, False)  # a program that the step starts must not keep the pipe open
    with os.fdopen(events, "w", encoding="utf-8") as stream:
        pipe = _Pipe(stream)
        request = json.loads(Path(sys.argv[1]).read_bytes())
        params = params_from_json(request["step"], request["params"])
        inputs = {name: Path(path) for name, path in request["inputs"].items()}
        try:
            with listening(pipe):
                step_function(request["step"])(params, inputs, Path(request["out"]))
        except FlatpackError as error:
            place = error.place and [error.place.file, error.place.line, error.place.column]
            pipe.send(event="error", type=type(error).__name__, message=error.message, place=place, hint=error.hint)
        except MemoryError:
            pipe.send(event="error", type="StepError", message="out of memory", place=None, hint="free some memory")
        except OSError as error:
            with contextlib.suppress(OSError):  # the log may lie on the very disk that is full
                traceback.print_exc()
            hint = "see the log of the step" if error.errno != errno.ENOSPC else "free some space on the disk"
            pipe.send(event="error", type="StepError", message=str(error), place=None, hint=hint)
        else:
            pipe.send(event="done", peak_memory=peak_memory())
    # Native libraries may hang or crash in their clean-up; what they made is already complete.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
