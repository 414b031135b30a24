"""Runs one shell command over one folder, cut off from the network and the rest of the machine as far as it can be.

Bubblewrap does it on Linux where it works; elsewhere the command runs in the folder with a scrubbed environment, and
the result says so. Must not know of build steps, declared outputs or the store: it runs, stops and listens.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal, TypeAlias

from flatpack_build.fs import temporary_folder
from flatpack_build.tracing import Trace, strace_arguments

Kind: TypeAlias = Literal["bubblewrap", "staged"]

EPOCH = 315_532_800
"""1980-01-01 UTC in seconds: the earliest time a zip archive can hold, so the earliest that every tool accepts."""

OUTPUT_LIMIT = 64 * 1024
"""Bytes of a command's output that are kept: the last ones."""

_TEMPORARY = "/tmp"  # noqa: S108 (inside the sandbox, and its own)
_HOME = "/tmp/home"  # noqa: S108 (a folder of its own: the running Python may be bound somewhere below /tmp)
_FOLDER = "/run/flatpack"  # where the command finds its folder; fixed, since tools write paths into what they make
_TRACE = "/run/trace"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
# No passwd, hosts or resolv.conf: they differ from machine to machine and a pure step needs none of them.
_SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/fonts", "/etc/ssl/openssl.cnf")
# What every program reads by itself where it is not shut out.
_AMBIENT = ("/etc", "/proc", "/sys", "/dev", "/run", "/var")
_PROBE_SECONDS = 20.0
_DRAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.05

# The lifeline is standard input, a pipe that only the builder holds open: when the builder dies, however it dies,
# the watcher reads the end of it and takes the whole process group down, itself included.
_STAGED_SCRIPT = """\
exec 3<&0 0</dev/null
(read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"""


@dataclass(frozen=True)
class SandboxResult:
    """What came of a command.

    ``status`` is its exit status (128 + n: ended by signal n), ``None`` when it was stopped at its time-out;
    ``output`` the last ``OUTPUT_LIMIT`` bytes of what it printed, both streams in their order. ``folder`` is where the
    command found its folder.

    When it was traced: ``missed`` are paths that it looked for and that were not there, relative to the folder where
    they lie in it, else absolute; ``reached`` are files that it read although bubblewrap would not have shown them.
    """

    kind: Kind
    status: int | None
    seconds: float
    output: str
    folder: str
    missed: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()


@dataclass
class Observation:
    """What ran in sandboxes while ``observing``."""

    trace: bool
    results: list[SandboxResult] = field(default_factory=list)


_observation: ContextVar[Observation | None] = ContextVar("observation", default=None)


@contextlib.contextmanager
def observing(*, trace: bool = False) -> Iterator[Observation]:
    """Keep the results of all commands that are run inside, whoever runs them; ``trace`` them with strace too."""
    observation = Observation(trace)
    token = _observation.set(observation)
    try:
        yield observation
    finally:
        _observation.reset(token)


def run_in_sandbox(
    command: str,
    *,
    folder: Path,
    environment: Mapping[str, str],
    timeout: float | None = None,
    kind: Kind | None = None,
) -> SandboxResult:
    """Run ``command`` with ``/bin/sh -e`` in ``folder``, the only place it may leave something.

    What the sandbox itself needs for a while lies beside ``folder``, so that it goes where ``folder`` goes.

    It sees ``environment`` and a few fixed variables, nothing of the caller's; the running interpreter is first on its
    PATH. All it started is gone when this returns or raises, and when the calling process dies. ``timeout`` is in
    seconds. ``kind`` asks for one sandbox; the default is the best that works here.
    Raises ``OSError`` when the shell cannot be started, or the command not be traced; one that fails is no error here.
    """
    scratch = folder.parent
    chosen = kind or best_kind(scratch)
    observation = _observation.get()
    with contextlib.ExitStack() as stack:
        trace: Trace | None = None
        if observation is not None and observation.trace:
            place = stack.enter_context(temporary_folder(scratch, prefix="flatpack-trace-"))
            trace = stack.enter_context(Trace(place, _FOLDER if chosen == "bubblewrap" else str(folder)))
        result = _run(command, folder, environment, timeout, chosen, trace)
    if trace is not None:
        result = _with_trace(result, trace)
    if observation is not None:
        observation.results.append(result)
    return result


def _run(
    command: str, folder: Path, environment: Mapping[str, str], timeout: float | None, kind: Kind, trace: Trace | None
) -> SandboxResult:
    words = ["/bin/sh", "-e", "-c", command]
    started = time.monotonic()
    if kind == "bubblewrap":
        program, flags = _bubblewrap(folder.parent)
        arguments = [program, *_bubblewrap_arguments(flags, folder, trace), *_traced(words, _TRACE, trace)]
        status, output = _execute(arguments, folder, _environment(_HOME) | dict(environment), timeout, trace=trace)
        seen = _FOLDER
    else:
        with temporary_folder(folder.parent, prefix="flatpack-home-") as home:
            fifo = str(trace.fifo) if trace else ""
            arguments = ["/bin/sh", "-c", _STAGED_SCRIPT, "sh", *_traced(words, fifo, trace)]
            status, output = _execute(
                arguments, folder, _environment(str(home)) | dict(environment), timeout, lifeline=True, trace=trace
            )
            seen = str(folder)
    return SandboxResult(kind, status, time.monotonic() - started, output.decode(errors="replace"), seen)


def _traced(words: Sequence[str], fifo: str, trace: Trace | None) -> list[str]:
    return [*strace_arguments(trace, fifo), *words] if trace else list(words)


def _with_trace(result: SandboxResult, trace: Trace) -> SandboxResult:
    if not trace.began:
        raise OSError(f"strace did not start: {result.output.strip() or 'it printed nothing'}")
    folders = (result.folder, os.path.realpath(result.folder))
    missed = dict.fromkeys(
        next((path[len(folder) + 1 :] for folder in folders if _is_below(path, (folder,))), path)
        for path in trace.missed
        if path not in folders
    )
    # Its temporary files are gone by now: what is left to be read was not its own.
    shown = (*_SYSTEM, *_AMBIENT, *_interpreter_folders(), *folders)
    reached = (
        path
        for path in trace.opened
        if result.kind == "staged" and path.startswith("/") and not _is_below(path, shown) and Path(path).is_file()
    )
    return replace(result, missed=tuple(missed), reached=tuple(reached))


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def best_kind(scratch: Path | None = None) -> Kind:
    """What is used where no kind is asked for."""
    return "staged" if _probe(scratch or Path(tempfile.gettempdir()))[1] else "bubblewrap"


def bubblewrap_problem() -> str:
    """Why bubblewrap cannot be used here; empty when it can. Tried once in a process."""
    return _probe(Path(tempfile.gettempdir()))[1]


def _environment(home: str) -> dict[str, str]:
    folders = [os.path.dirname(sys.executable), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
    if sys.platform == "darwin":
        folders.insert(1, "/opt/homebrew/bin")  # where Apple silicon keeps what others have in /usr/local/bin
    return {
        "PATH": ":".join(folders),
        "HOME": home,
        "TMPDIR": home,
        "USER": "flatpack",
        "LOGNAME": "flatpack",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _interpreter_folders() -> Iterator[str]:
    """The running Python's folders, where they are not in the system's: under their own names and their real ones."""
    seen: set[str] = set()
    for prefix in (sys.base_prefix, sys.prefix):
        for folder in (os.path.abspath(prefix), os.path.realpath(prefix)):
            inside_system = any(folder == known or folder.startswith(known + "/") for known in _SYSTEM)
            if folder != "/" and not inside_system and folder not in seen:
                seen.add(folder)
                yield folder


def _bubblewrap_arguments(flags: Sequence[str], folder: Path, trace: Trace | None = None) -> list[str]:
    arguments = [
        "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", *flags,
        "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "flatpack",
        "--proc", "/proc", "--dev", "/dev", "--tmpfs", _TEMPORARY, "--dir", _HOME,
    ]  # fmt: skip
    for path in _SYSTEM:
        if os.path.islink(path):
            arguments += ["--symlink", str(Path(path).readlink()), path]
        elif os.path.isdir(path):
            arguments += ["--ro-bind", path, path]
    for path in _SETTINGS:
        arguments += ["--ro-bind-try", path, path]
    for path in _interpreter_folders():
        arguments += ["--ro-bind", path, path]
    if trace:
        arguments += ["--bind", str(trace.fifo), _TRACE]
    return [*arguments, "--bind", str(folder), _FOLDER, "--chdir", _FOLDER, "--remount-ro", "/"]


def _bubblewrap(scratch: Path) -> tuple[str, tuple[str, ...]]:
    found = _probe(scratch)[0]
    if found is None:
        raise OSError(f"bubblewrap does not work here: {bubblewrap_problem()}")
    return found


_Found: TypeAlias = tuple[tuple[str, tuple[str, ...]] | None, str]
_found: list[_Found] = []


def _probe(scratch: Path) -> _Found:
    """The program with the flags that work, or what went wrong; the same for the whole life of this process."""
    if not _found:
        _found.append(_try_bubblewrap(scratch))
    return _found[0]


def _try_bubblewrap(scratch: Path) -> _Found:
    if sys.platform != "linux":
        return None, "it is for Linux only"
    program = shutil.which("bwrap")
    if program is None:
        return None, "bwrap is not installed (the package is called bubblewrap)"
    problem = ""
    with temporary_folder(scratch, prefix="flatpack-probe-") as folder:
        # A user namespace hides who builds (always uid 1000). Root in a container may have none, and needs none.
        for flags in (("--unshare-user", "--uid", "1000", "--gid", "1000"), ()):
            command = [program, *_bubblewrap_arguments(flags, folder), "/bin/sh", "-c", "echo ready > it"]
            try:
                status, output = _execute(command, folder, _environment(_HOME), _PROBE_SECONDS)
            except OSError as error:
                return None, f"{program} cannot be run: {error.strerror}"
            if status == 0 and (folder / "it").is_file():
                return (program, flags), ""
            problem = problem or output.decode(errors="replace").strip() or f"exit status {status}"
    return None, problem


def _execute(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    timeout: float | None,
    *,
    lifeline: bool = False,
    trace: Trace | None = None,
) -> tuple[int | None, bytes]:
    """Run to the end or the time-out; leave nothing of its process group alive. Returns status and last output.

    ``lifeline``: its standard input is a pipe that ends when this process does; else it is empty.
    """
    process = subprocess.Popen(
        arguments,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        umask=0o022,
    )
    assert process.stdout is not None
    last = bytearray()
    reader = threading.Thread(target=_keep_last, args=(process.stdout, last), daemon=True)
    reader.start()
    status: int | None = None
    try:
        status = _wait(process, timeout, trace)
    finally:
        # Also after a good end: what it left running in the background must not go on writing.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        # A process that made itself a session of its own may still hold the pipe: do not wait for that one.
        reader.join(_DRAIN_SECONDS)
        if not reader.is_alive():
            process.stdout.close()
    return (128 - status if status is not None and status < 0 else status), bytes(last)


def _wait(process: subprocess.Popen[bytes], timeout: float | None, trace: Trace | None) -> int | None:
    """The exit status; ``None`` when the time is over."""
    if trace is None:
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
    # strace ends with the last process of the command, the command with its first: what that leaves running is stopped.
    deadline = None if timeout is None else time.monotonic() + timeout
    while deadline is None or time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(_LOOK_SECONDS)
            return status if trace.status is None else trace.status
        if trace.status is not None:
            return trace.status
    return None


def _keep_last(stream: IO[bytes], last: bytearray) -> None:
    while block := os.read(stream.fileno(), OUTPUT_LIMIT):
        last += block
        del last[:-OUTPUT_LIMIT]
