"""Reading a trace: which paths were looked for in vain, however a program asks, whatever a file is called."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatpack_build.sandbox import Kind, SandboxResult, bubblewrap_problem, observing, run_in_sandbox
from flatpack_build.tracing import Trace, strace_problem

ROOT = Path(__file__).parent.parent
needs_bubblewrap = pytest.mark.skipif(bool(bubblewrap_problem()), reason=f"bubblewrap: {bubblewrap_problem()}")
needs_strace = pytest.mark.skipif(bool(strace_problem()), reason=strace_problem())
both = pytest.mark.parametrize("kind", [pytest.param("bubblewrap", marks=needs_bubblewrap), "staged"])


def traced(command: str, folder: Path, kind: Kind, timeout: float = 30) -> SandboxResult:
    with observing(trace=True) as observation:
        result = run_in_sandbox(command, folder=folder, environment={}, timeout=timeout, kind=kind)
    assert observation.results == [result]
    return result


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    with Trace(tmp_path, "/w") as trace:
        yield trace


def coded(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


@pytest.mark.parametrize(
    ("lines", "missed"),
    [
        ('9 openat(AT_FDCWD<{/w}>, "{a}", O_RDONLY) = -1 ENOENT (No such file or directory)', "/w/a"),
        ('9 openat(AT_FDCWD<{/w/d}>, "{../a}", O_RDONLY) = -1 ENOENT (No such file or directory)', "/w/a"),
        ('9 openat(AT_FDCWD<{/w}>, "{/x/y}", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory)', "/x/y"),
        ('9 newfstatat(7<{/w/d}>, "{a}", 0x7ff, AT_SYMLINK_NOFOLLOW) = -1 ENOENT (No such file or directory)', "/w/d/a"),
        ('9 access("{a}", F_OK) = -1 ENOENT (No such file or directory)', "/w/a"),
        ('9 openat(AT_FDCWD<{/w/d}>, "{b}", O_RDONLY) = 3<{/w/d/b}>\n9 access("{a}", F_OK) = -1 ENOENT (x)', "/w/d/a"),
        ('9 execve("{./a}", ["{a}"], 0x7ff /* 3 vars */) = -1 ENOENT (No such file or directory)', "/w/a"),
        ('9 openat(AT_FDCWD<{/w}>, "{a}", O_RDONLY <unfinished ...>\n8 access("{/}", F_OK) = 0\n'
         "9 <... openat resumed>) = -1 ENOENT (No such file or directory)", "/w/a"),
        ('9 openat(AT_FDCWD<{/w}>, "{a}", O_RDONLY|O_DIRECTORY) = -1 ENOENT (No such file or directory)', "/w/a"),
        ('9 stat("{a/b}", 0x7ff) = -1 ENOTDIR (Not a directory)', "/w/a/b"),
        # Not looked for: made, removed, found, or forbidden.
        ('9 openat(AT_FDCWD<{/w}>, "{d/a}", O_WRONLY|O_CREAT|O_TRUNC, 0666) = -1 ENOENT (No such file or directory)', ""),
        ('9 unlink("{a}") = -1 ENOENT (No such file or directory)', ""),
        ('9 openat(AT_FDCWD<{/w}>, "{a}", O_RDONLY) = 3<{/w/a}>', ""),
        ('9 openat(AT_FDCWD<{/w}>, "{a}", O_RDONLY) = -1 EACCES (Permission denied)', ""),
        ('9 openat(AT_FDCWD<{/w}>, "{a}", O_RDO', ""),
        ("rubbish", ""),
        ('9 newfstatat(3<{/w/a}>, "", 0x7ff, AT_EMPTY_PATH) = -1 ENOENT (No such file or directory)', ""),
    ],
)  # fmt: skip
def test_lines_of_strace(trace: Trace, lines: str, missed: str) -> None:
    for line in lines.splitlines():
        trace.feed(re.sub(r"\{([^{}]*)\}", lambda match: coded(match[1]), line))
    assert list(trace.missed) == ([missed] if missed else [])


@pytest.mark.parametrize(("line", "status"), [("exited with 3", 3), ("killed by SIGSEGV (core dumped)", 139)])
def test_how_it_ended(trace: Trace, line: str, status: int) -> None:
    trace.feed('9 execve("", [], 0x7ff) = 0')
    trace.feed("10 +++ exited with 0 +++")
    assert trace.status is None
    trace.feed(f"9 +++ {line} +++")
    assert trace.status == status


@both
@needs_strace
def test_real_programs(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "there").write_text("x")
    names = ["a", "b c", "d\n9 e", '"f', "g>h", "é", "sub/i", "j"]
    code = "import os, sys\nfor name in sys.argv[1:]: os.path.exists(name)\nopen('there').read()"
    quoted = " ".join(f"'{name}'" for name in names[:-1])
    result = traced(f'python3 -c "{code}" {quoted}; mkdir sub; cd sub; cat ../j ../there || true', tmp_path, kind)
    assert (result.status, result.kind) == (0, kind)
    inside = {path for path in result.missed if not path.startswith("/")}
    assert set(names) <= inside
    assert "there" not in inside
    assert "cat: ../j: No such file or directory" in result.output


@both
@needs_strace
def test_many_processes_at_once(tmp_path: Path, kind: Kind) -> None:
    result = traced("for i in 1 2 3 4 5 6 7 8; do cat missing$i 2>/dev/null & done; wait", tmp_path, kind)
    assert {f"missing{number}" for number in range(1, 9)} <= set(result.missed)


@both
@needs_strace
def test_a_traced_command_sees_no_more_than_others(tmp_path: Path, kind: Kind) -> None:
    command = "ls -A . $HOME; pwd; ls -l /proc/self/fd | wc -l; env | sort"
    plain = run_in_sandbox(command, folder=tmp_path, environment={}, kind=kind)
    result = traced(command, tmp_path, kind)
    said = [re.sub(r"flatpack-home-\w+", "home", output) for output in (plain.output, result.output)]
    assert said[0] == said[1]


@both
@needs_strace
def test_what_was_missed_before_a_time_out_is_known(tmp_path: Path, kind: Kind) -> None:
    result = traced("cat b || sleep 60", tmp_path, kind, timeout=0.7)
    assert result.status is None
    assert "b" in result.missed


def problem(path: str) -> str:
    code = "from flatpack_build.tracing import strace_problem; print(strace_problem())"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="strace is for Linux only")
def test_says_why_nothing_can_be_traced(tmp_path: Path) -> None:
    assert problem(str(tmp_path)) == "strace is not installed"
    broken = tmp_path / "strace"
    broken.write_text(
        "#!/bin/sh\necho 'strace: test_ptrace_get_syscall_info: PTRACE_TRACEME: Operation not permitted' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    assert "Operation not permitted" in problem(str(tmp_path))
    broken.write_text("#!/bin/sh\nexit 7\n")  # a status alone proves nothing
    assert "traces nothing" in problem(str(tmp_path))
    broken.write_text("no program at all")
    assert "cannot be run" in problem(str(tmp_path))
