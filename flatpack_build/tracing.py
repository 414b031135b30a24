"""What a command looked for and did not find, and what it opened: read off strace. Knows no sandbox and no build step.

strace writes into a FIFO that is read while the command runs, so no trace ever lies on the disk. Every text in it comes
in hexadecimal (``-xx``): nothing that a command calls its files can be taken for a line of the trace.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from flatpack_build.fs import temporary_folder

_LOOKS = frozenset(
    {
        "open", "openat", "openat2", "stat", "lstat", "stat64", "lstat64", "newfstatat", "fstatat64", "statx",
        "access", "faccessat", "faccessat2", "execve", "execveat", "readlink", "readlinkat", "chdir",
    }
)  # fmt: skip
_OPENS = frozenset(("open", "openat", "openat2"))
_WRITES = re.compile(r"O_(?:WRONLY|RDWR|CREAT|PATH|DIRECTORY)\b")
_LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>)?(.*)")
_CALL = re.compile(
    r"(?P<name>\w+)\((?:(?:AT_FDCWD|\d+)<(?P<base>[^>]*)>, )?\"(?P<path>[^\"]*)\"(?P<rest>.*)\) += "
    r"(?P<value>-?\d+)(?:<(?P<opened>[^>]*)>| (?P<error>E[A-Z]+))?"
)
_UNFINISHED = " <unfinished ...>"
_ENDED = re.compile(r"(\d+) +\+\+\+ (?:exited with (\d+)|killed by (\w+)).*\+\+\+")
_END_OF_TRACE = b"end\n"
_MOST = 20_000
_PROBE_SECONDS = 20.0


class Trace:
    """A FIFO in ``folder`` for strace to write to, and what was read from it. Enter it before the command is started."""

    def __init__(self, folder: Path, working_folder: str) -> None:
        self.fifo = folder / "trace"
        self.missed: dict[str, None] = {}
        """Absolute paths, as the command sees them, that it looked for and that were not there."""
        self.opened: dict[str, None] = {}
        """Absolute real paths that it opened to read from."""
        self.status: int | None = None
        """How the traced command ended, as a shell says it; ``None`` while it runs."""
        self._working = working_folder
        self._first = ""
        self._unfinished: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._fd = -1
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Trace:
        os.mkfifo(self.fifo, 0o600)
        # For both: then it has an end only when we say so, not each time that strace has not opened it yet.
        self._fd = os.open(self.fifo, os.O_RDWR | os.O_CLOEXEC)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._fd, b"\n" + _END_OF_TRACE)  # strace may have been killed in the middle of a line
        self._reader.join()
        os.close(self._fd)

    @property
    def began(self) -> bool:
        """Whether strace ran at all."""
        return bool(self._first)

    def _read(self) -> None:
        with open(self._fd, "rb", closefd=False) as stream:
            for line in stream:
                if line == _END_OF_TRACE:
                    return
                self.feed(line.decode("ascii", errors="replace").rstrip("\n"))

    def feed(self, line: str) -> None:
        """Take one line of strace's. What is not understood says nothing."""
        ended = _ENDED.match(line)
        if ended:
            if ended[1] == self._first and self.status is None:
                self.status = int(ended[2]) if ended[2] else 128 + _signal_number(ended[3])
            return
        match = _LINE.match(line)
        if not match:
            return
        process, text = match[1], match[2]
        self._first = self._first or process
        if text.endswith(_UNFINISHED):
            self._unfinished[process] = text.removesuffix(_UNFINISHED)
            return
        call = _CALL.match(self._unfinished.pop(process, "") + text)
        if call:
            self._take(process, call)

    def _take(self, process: str, call: re.Match[str]) -> None:
        if call["base"] is not None:
            base = _decoded(call["base"])
            if not call["name"].startswith("exec"):  # elsewhere the descriptor may be any folder
                self._folders[process] = base
        else:  # an old call: relative to where the process was when it was last heard of
            base = self._folders.get(process, self._working)
        path = _decoded(call["path"])
        if not path or call["name"] not in _LOOKS:
            return
        writes = call["name"] in _OPENS and _WRITES.search(call["rest"])
        if call["error"] in ("ENOENT", "ENOTDIR"):
            if not (writes and "O_DIRECTORY" not in writes[0]) and len(self.missed) < _MOST:
                self.missed[os.path.normpath(os.path.join(base, path))] = None
        elif call["opened"] and not writes and len(self.opened) < _MOST:
            self.opened[_decoded(call["opened"])] = None


def strace_arguments(trace: Trace, fifo: str) -> list[str]:
    """What to put before a command so that it is traced; ``fifo`` is where it finds the trace's FIFO.

    Raises ``OSError`` where that cannot be done.
    """
    if strace_problem(trace.fifo.parent.parent):
        raise OSError(f"it cannot be traced: {strace_problem()}")
    return [shutil.which("strace") or "strace", *_FLAGS, "-o", fifo]


_FLAGS = (
    "-f", "--seccomp-bpf", "-y", "-xx", "-s", "4096", "-q", "-e", "trace=%file",
)  # fmt: skip


_found: list[str] = []


def strace_problem(scratch: Path | None = None) -> str:
    """Why nothing can be traced here; empty when it can. Tried once in a process, in a folder below ``scratch``."""
    if not _found:
        _found.append(_try_strace(scratch or Path(tempfile.gettempdir())))
    return _found[0]


def _try_strace(scratch: Path) -> str:
    if sys.platform != "linux":
        return "strace is for Linux only"
    program = shutil.which("strace")
    if program is None:
        return "strace is not installed"
    with (
        temporary_folder(scratch, prefix="flatpack-probe-") as folder,
        Trace(folder, "/") as trace,
    ):
        try:
            done = subprocess.run(
                [program, *_FLAGS, "-o", str(trace.fifo), "/bin/sh", "-c", "exit 7"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{program} cannot be run: {error}"
    if trace.status != 7:
        return done.stderr.decode(errors="replace").strip() or f"{program} traces nothing"
    return ""


def _decoded(text: str) -> str:
    """``\\x41\\x42`` -> ``AB``. What is cut off or spelled otherwise stays as it is."""
    if not text.startswith("\\x"):
        return text
    try:
        return os.fsdecode(bytes.fromhex(text.replace("\\x", "")))
    except ValueError:
        return text


def _signal_number(name: str) -> int:
    try:
        return signal.Signals[name].value
    except KeyError:
        return 0
