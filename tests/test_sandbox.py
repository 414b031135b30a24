"""The sandbox: what a command can see, reach and leave behind, in both kinds; and that nothing of it survives."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flatpack_build.sandbox import OUTPUT_LIMIT, Kind, SandboxResult, bubblewrap_problem, run_in_sandbox
from flatpack_build.tracing import strace_problem

ROOT = Path(__file__).parent.parent
needs_bubblewrap = pytest.mark.skipif(bool(bubblewrap_problem()), reason=f"bubblewrap: {bubblewrap_problem()}")
needs_strace = pytest.mark.skipif(bool(strace_problem()), reason=strace_problem())
both = pytest.mark.parametrize("kind", [pytest.param("bubblewrap", marks=needs_bubblewrap), "staged"])

# Sounds every 20 ms for as long as it lives.
HEART = "while :; do echo beat >> heart; sleep 0.02; done"


def run(command: str, folder: Path, kind: Kind, *, timeout: float | None = 30, **environment: str) -> SandboxResult:
    return run_in_sandbox(command, folder=folder, environment=environment, timeout=timeout, kind=kind)


def assert_dead(heart: Path) -> None:
    """Fail unless ``heart``, which did beat, has stopped within 5 s."""
    assert heart.stat().st_size > 0
    deadline = time.monotonic() + 5
    size = -1
    while size != (size := heart.stat().st_size):
        assert time.monotonic() < deadline, "something still runs"
        time.sleep(0.3)


@both
def test_runs_in_the_folder_and_says_how_it_went(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "in").write_text("hello")
    result = run("tr a-z A-Z < in > out; echo told; echo warned >&2", tmp_path, kind)
    assert (result.kind, result.status, result.output) == (kind, 0, "told\nwarned\n")
    assert 0 < result.seconds < 30
    assert (tmp_path / "out").read_text() == "HELLO"
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


@both
@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("no-such-program", 127)])
def test_exit_status(tmp_path: Path, kind: Kind, command: str, status: int) -> None:
    assert run(command, tmp_path, kind).status == status


@both
def test_stops_at_the_first_line_that_fails(tmp_path: Path, kind: Kind) -> None:
    assert run("false\ntouch after", tmp_path, kind).status == 1
    assert not (tmp_path / "after").exists()


@both
def test_environment_is_scrubbed(tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    output = run("env; date -d @0 +%H 2>/dev/null || date -r 0 +%H", tmp_path, kind, WORD="a b", LANG="sv_SE").output
    seen = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    assert "hunter2" not in output
    assert set(seen) - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "SOURCE_DATE_EPOCH", "PYTHONHASHSEED",
        "PYTHONDONTWRITEBYTECODE", "WORD",
    }  # fmt: skip
    assert (seen["WORD"], seen["LANG"], seen["TZ"]) == ("a b", "sv_SE", "UTC")
    assert output.splitlines()[-1] == "00"
    assert seen["HOME"] != str(Path.home())


@both
def test_the_running_python_is_the_one_it_finds(tmp_path: Path, kind: Kind) -> None:
    output = run("python3 -c 'import sys, jinja2; print(sys.version); print(sys.prefix)'", tmp_path, kind).output
    assert output.splitlines() == [*sys.version.splitlines(), sys.prefix]


@both
def test_home_is_empty_writable_and_gone_afterwards(tmp_path: Path, kind: Kind) -> None:
    result = run('ls -A "$HOME"; echo x > "$HOME/note"; mktemp >/dev/null; echo "$HOME"', tmp_path, kind)
    assert result.status == 0
    (home,) = result.output.split()
    assert not Path(home, "note").exists()


@both
def test_standard_input_is_empty(tmp_path: Path, kind: Kind) -> None:
    result = run("cat; echo end", tmp_path, kind, timeout=10)
    assert (result.status, result.output) == (0, "end\n")


@both
def test_keeps_the_end_of_a_long_output(tmp_path: Path, kind: Kind) -> None:
    result = run("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo the end", tmp_path, kind)
    assert len(result.output) == OUTPUT_LIMIT
    assert result.output.endswith("line 19999\nthe end\n")


@both
def test_output_that_is_not_text(tmp_path: Path, kind: Kind) -> None:
    assert run(r"printf 'a\377b'", tmp_path, kind).output == "a\N{REPLACEMENT CHARACTER}b"


@both
def test_timeout_kills_grandchildren(tmp_path: Path, kind: Kind) -> None:
    started = time.monotonic()
    result = run(f"sh -c '{HEART}' & sh -c 'echo waiting; sleep 60'", tmp_path, kind, timeout=0.6)
    assert result.status is None
    assert time.monotonic() - started < 5
    assert result.output == "waiting\n"
    assert_dead(tmp_path / "heart")


@both
def test_what_it_leaves_running_is_killed(tmp_path: Path, kind: Kind) -> None:
    started = time.monotonic()
    result = run(f"({HEART}) & sleep 0.3; echo done", tmp_path, kind)  # the loop holds the output open
    assert (result.status, result.output) == (0, "done\n")
    assert time.monotonic() - started < 4
    assert_dead(tmp_path / "heart")


def obey_interrupts() -> None:
    """What is started in the background of a script ignores SIGINT, and so would all that these tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@both
@pytest.mark.parametrize(
    ("number", "trace"),
    [
        (signal.SIGKILL, False),
        (signal.SIGTERM, False),
        (signal.SIGINT, False),
        pytest.param(signal.SIGKILL, True, marks=needs_strace),
    ],
)
def test_dies_with_the_builder(tmp_path: Path, kind: Kind, number: signal.Signals, trace: bool) -> None:
    code = (
        "import pathlib, sys; from flatpack_build.sandbox import observing, run_in_sandbox\n"
        "with observing(trace=bool(sys.argv[4])):\n"
        "    run_in_sandbox(sys.argv[1], folder=pathlib.Path(sys.argv[2]), environment={}, kind=sys.argv[3])"
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", code, f"sh -c '{HEART}'", str(tmp_path), kind, "yes" * trace],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        preexec_fn=obey_interrupts,
    )
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "heart").exists():
            assert builder.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        builder.send_signal(number)
        builder.wait(10)
    finally:
        builder.kill()
        builder.wait()
    assert_dead(tmp_path / "heart")


@both
def test_network(tmp_path: Path, kind: Kind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 5)'"
        status = run(connect, tmp_path, kind).status
    # The staged kind cannot cut it, which is why its name is in the record; it also shows that the server was there.
    assert status == (1 if kind == "bubblewrap" else 0)


@needs_bubblewrap
@pytest.mark.parametrize("place", [str(Path.home()), "/", "/usr", "/etc", "/run", sys.prefix, "/var/tmp"])
def test_cannot_write_elsewhere(tmp_path: Path, place: str) -> None:
    name = f"flatpack-sandbox-test-{os.getpid()}"
    result = run(f"echo x > '{place}/{name}'", tmp_path, "bubblewrap")
    assert result.status not in (0, None)
    assert not Path(place, name).exists()


@needs_bubblewrap
def test_cannot_read_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (secret, Path("/etc/passwd"), Path(__file__), Path("/proc") / str(os.getpid()) / "environ"):
        result = run(f"cat '{path}'", folder, "bubblewrap")
        assert result.status == 1
        assert "No such file" in result.output


@needs_bubblewrap
def test_looks_the_same_on_every_machine(tmp_path: Path) -> None:
    result = run("pwd; uname -n; id -u; echo $HOME; ls /proc | grep -c '^[0-9]'", tmp_path, "bubblewrap")
    here, host, user, home, processes = result.output.split()
    assert (here, host, user, home) == ("/run/flatpack", "flatpack", "1000", "/tmp/home")
    assert int(processes) < 8


@needs_bubblewrap
def test_has_no_privileges(tmp_path: Path) -> None:
    result = run(
        "grep CapEff /proc/self/status; mount -o remount,rw / 2>/dev/null && echo remounted || true",
        tmp_path,
        "bubblewrap",
    )
    assert result.output.split() == ["CapEff:", "0" * 16]


def probe(path: str, folder: Path) -> list[str]:
    code = (
        "import pathlib; from flatpack_build.sandbox import *\n"
        "print(bubblewrap_problem()); print(run_in_sandbox('true', folder=pathlib.Path.cwd(), environment={}).kind)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": path, "PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_says_why_bubblewrap_cannot_be_used(tmp_path: Path) -> None:
    problem, kind = probe(str(tmp_path), tmp_path)
    assert kind == "staged"
    assert problem == (
        "it is for Linux only"
        if sys.platform != "linux"
        else "bwrap is not installed (the package is called bubblewrap)"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux only")
def test_a_bubblewrap_that_does_not_work(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    assert probe(str(tmp_path), tmp_path) == ["bwrap: No permissions to create new namespace", "staged"]
    broken.write_text("no program at all")
    problem, kind = probe(str(tmp_path), tmp_path)
    assert problem.startswith(f"{broken} cannot be run")
    assert kind == "staged"
