"""Steps in processes of their own: what they report, how they fail, and that none outlives its builder."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flatpack_build.errors import CrashError, SourceError
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.executor.protocol import Execution, Job
from flatpack_build.params import FetchParams, IndexParams
from tests.heard import Heard


class _Slow(http.server.BaseHTTPRequestHandler):
    """Sends a little, then nothing, until it is let go."""

    go = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"half")
        self.wfile.flush()
        self.go.wait(60)
        self.wfile.write(b"more")

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def slow_url() -> Iterator[str]:
    _Slow.go.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/file.bin"
    _Slow.go.set()
    server.shutdown()
    server.server_close()


def fetch_job(folder: Path, url: str) -> Job:
    (folder / "out").mkdir()
    # sha256 of b"halfmore"
    digest = "f4b0c5ee9f9b4b8bcd2a2b4ffe7a1a4d3a4d9f7a6f2e9e7a7c1f5a7b0c1d2e3f"
    return Job("fetch:x", FetchParams(url, {"file.bin": digest}, {}), {}, folder / "out")


def child_of(process: psutil.Process) -> psutil.Process:
    for _ in range(400):
        for child in process.children(recursive=True):
            if "flatpack_build.executor.child" in child.cmdline():
                return child
        time.sleep(0.05)
    raise AssertionError("no step process appeared")


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "ran out of memory"), (signal.SIGABRT, "SIGABRT")],
)
def test_a_crash_is_a_failed_action_that_names_the_signal(
    tmp_path: Path, slow_url: str, number: signal.Signals, word: str
) -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            LocalExecutor(os.environ).run(fetch_job(tmp_path, slow_url), Heard())
        except CrashError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    child_of(psutil.Process()).send_signal(number)
    thread.join(30)
    assert len(caught) == 1
    assert word in str(caught[0])
    assert number.name in str(caught[0])


def test_a_steps_own_error_comes_through_with_its_type_and_hint(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        LocalExecutor(os.environ).run(fetch_job(tmp_path, "http://127.0.0.1:1/file.bin?x"), Heard())
    assert caught.value.hint


def test_python_that_fails_to_start_is_a_crash_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    job = Job("index:x", IndexParams(), {}, tmp_path / "out")
    with pytest.raises(CrashError, match="KeyError"):
        LocalExecutor(os.environ).run(job, Heard())


def test_secrets_do_not_reach_a_step(tmp_path: Path, slow_url: str) -> None:
    done: list[Execution | BaseException] = []
    environment = {**os.environ, "FLATPACK_PASSPHRASE": "secret-word"}

    def work() -> None:
        try:
            done.append(LocalExecutor(environment).run(fetch_job(tmp_path, slow_url), Heard()))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            done.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    child = child_of(psutil.Process())
    assert "secret-word" not in str(child.environ()) + str(child.cmdline())
    child.kill()
    thread.join(30)


def test_a_step_dies_with_its_builder(tmp_path: Path, slow_url: str) -> None:
    code = (
        "import os, sys; from pathlib import Path; from flatpack_build.executor.local import LocalExecutor;"
        "from tests.executor.test_local import fetch_job; from tests.heard import Heard;"
        "LocalExecutor(os.environ).run(fetch_job(Path(sys.argv[1]), sys.argv[2]), Heard())"
    )
    root = Path(__file__).resolve().parents[2]
    builder = subprocess.Popen([sys.executable, "-c", code, os.fspath(tmp_path), slow_url], cwd=root)
    child = child_of(psutil.Process(builder.pid))
    builder.kill()
    builder.wait()
    child.wait(10)
    assert not child.is_running()
