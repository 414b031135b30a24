"""Declared build steps in real sandboxes: what they miss is named, whatever it is that misses it, in both kinds."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from flatpack_build import events
from flatpack_build.action import StepFunction, Surroundings
from flatpack_build.errors import Place, StepError
from flatpack_build.executor.declared import run_declared
from flatpack_build.executor.local import LocalExecutor
from flatpack_build.executor.protocol import Job
from flatpack_build.fs import walk_files
from flatpack_build.params import Params, RunParams
from flatpack_build.sandbox import Kind, bubblewrap_problem
from flatpack_build.steps.run import run
from flatpack_build.tracing import strace_problem
from tests.heard import Heard

needs_bubblewrap = pytest.mark.skipif(bool(bubblewrap_problem()), reason=f"bubblewrap: {bubblewrap_problem()}")
needs_strace = pytest.mark.skipif(bool(strace_problem()), reason=strace_problem())
both = pytest.mark.parametrize("kind", [pytest.param("bubblewrap", marks=needs_bubblewrap), "staged"])

FILES = {
    "Makefile": "out.txt: data/words.csv\n\tsort data/words.csv > out.txt\n",
    "data/deep/more.csv": "b\n",
    "data/words.csv": "a\n",
    "flatpack.toml": "",
    "helpers.py": "GREETING = 'hello'\n",
    "make.py": "print(open('data/words.csv').read(), file=open('out.txt', 'w'))\n",
    "make.sh": "cat data/words.csv > out.txt\n",
    "use.py": "import helpers\nopen('out.txt', 'w').write(helpers.GREETING)\n",
}


class Flatpack:
    """A flatpack's folder, and one step of it that is run with some of its files."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "shop" / "x"
        self.out = folder / "out"
        self.staged = folder / "staged"
        for path, text in FILES.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        self.heard = Heard()

    def job(self, command: str, *inputs: str, outputs: tuple[str, ...] = ("out.txt",), timeout: float = 0) -> Job:
        shutil.rmtree(self.out, ignore_errors=True)
        shutil.rmtree(self.staged, ignore_errors=True)
        self.out.mkdir()
        self.staged.mkdir()
        for path in inputs:
            (self.staged / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / path, self.staged / path)
        params = RunParams("page", command, outputs, {}, timeout_seconds=timeout)
        around = Surroundings("page", Place("flatpack.toml", 7), str(self.root), inputs, tuple(FILES), {})
        return Job("run:x/page", params, {"files": self.staged}, self.out, around)

    def run(self, job: Job, kind: Kind, *, trace: bool = False) -> dict[str, str]:
        def step(params: Params, inputs: Mapping[str, Path], out: Path) -> None:
            assert isinstance(params, RunParams)
            run(params, inputs, out, kind=kind)

        function: StepFunction = step
        assert job.around is not None
        self.heard = Heard()
        with events.listening(self.heard):
            run_declared(function, job, job.around, trace=trace)
        return {path: Path(entry.path).read_text() for path, entry in walk_files(self.out)}

    def fail(self, job: Job, kind: Kind, *, trace: bool = False) -> StepError:
        with pytest.raises(StepError) as caught:
            self.run(job, kind, trace=trace)
        assert caught.value.place == Place("flatpack.toml", 7)
        return caught.value


@pytest.fixture
def flatpack(tmp_path: Path) -> Flatpack:
    return Flatpack(tmp_path)


@both
@pytest.mark.parametrize(
    ("command", "inputs", "entry"),
    [
        ("sh make.sh", (), "make.sh"),
        ("./make.sh", (), "make.sh"),
        ("python3 make.py", (), "make.py"),
        ("python3 make.py", ("make.py",), "data/words.csv"),
        ("sh make.sh", ("make.sh",), "data/words.csv"),
        ("sh ./make.sh", ("make.sh",), "data/words.csv"),
        ("python3 use.py", ("use.py",), "helpers.py"),
        ("cat data/deep/more.csv > out.txt", ("data/words.csv",), "data/deep/more.csv"),
        ("sort < data/words.csv > out.txt", (), "data/words.csv"),
        ("cd data && sort words.csv > ../out.txt", (), "data"),
        ("cat data/*.csv > out.txt", (), "data/*.csv"),
        # Its last command went well, but not all of them.
        ("cat data/words.csv | sort > out.txt", (), "data/words.csv"),
    ],
)
def test_the_file_that_was_missed(
    flatpack: Flatpack, kind: Kind, command: str, inputs: tuple[str, ...], entry: str
) -> None:
    error = flatpack.fail(flatpack.job(command, *inputs), kind)
    assert f"build step 'page' looked for {entry}, not among its inputs" in error.message
    wanted = ", ".join(f'"{path}"' for path in (*inputs, entry))
    assert error.hint == f"write in [build.page]: inputs = [{wanted}]"


@both
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(("inputs", "entry"), [((), "Makefile"), (("Makefile",), "data/words.csv")])
def test_make(flatpack: Flatpack, kind: Kind, inputs: tuple[str, ...], entry: str) -> None:
    assert f'"{entry}"]' in flatpack.fail(flatpack.job("make", *inputs), kind).hint
    job = flatpack.job("make", "Makefile", "data/words.csv")
    assert flatpack.run(job, kind) == {"out.txt": "a\n"}


@both
def test_a_file_outside_the_flatpack(flatpack: Flatpack, kind: Kind) -> None:
    (flatpack.root.parent / "shared").mkdir()
    (flatpack.root.parent / "shared/x").write_text("x")
    error = flatpack.fail(flatpack.job("cat ../shared/x > out.txt"), kind)
    assert error.hint.startswith(
        "it looked for ../shared/x, outside the flatpack's folder; inputs must lie in that folder"
    )


@both
def test_a_name_that_only_resembles_one(flatpack: Flatpack, kind: Kind) -> None:
    error = flatpack.fail(flatpack.job("cat data/words.csv.old > out.txt"), kind)
    assert "a step sees only copies of its declared inputs" in error.hint
    assert 'words.csv"' not in error.hint


@both
def test_a_step_that_has_all_it_needs(flatpack: Flatpack, kind: Kind) -> None:
    job = flatpack.job("python3 make.py; ls . data | sort | tr '\\n' ' '", "make.py", "data/words.csv")
    assert flatpack.run(job, kind) == {"out.txt": "a\n\n"}


# --- traced


@both
@needs_strace
@pytest.mark.parametrize(
    ("command", "entry"),
    [
        ("test -f data/words.csv || echo none > out.txt", "data/words.csv"),
        ("test -r data/words.csv || echo none > out.txt", "data/words.csv"),
        ("cat data/words.csv > out.txt 2>/dev/null || true", "data/words.csv"),
        ("mkdir data; cd data; cat words.csv 2>/dev/null > ../out.txt || rmdir ../data", "data/words.csv"),
        ("cd data 2>/dev/null || echo none > out.txt", "data"),
        ("python3 -c \"import os; open('out.txt', 'w').write(str(os.path.exists('helpers.py')))\"", "helpers.py"),
        ("./make.sh 2>/dev/null || touch out.txt", "make.sh"),
    ],
)
def test_a_step_that_goes_on_without_a_file(flatpack: Flatpack, kind: Kind, command: str, entry: str) -> None:
    assert set(flatpack.run(flatpack.job(command), kind)) == {"out.txt"}  # nothing that it prints gives it away
    error = flatpack.fail(flatpack.job(command), kind, trace=True)
    assert f"looked for {entry}, not among its inputs, and went on without" in error.message
    assert f'inputs = ["{entry}"]' in error.hint


@both
@needs_strace
def test_a_traced_step_that_fails_and_does_not_say_why(flatpack: Flatpack, kind: Kind) -> None:
    error = flatpack.fail(flatpack.job("cat data/words.csv 2>/dev/null"), kind, trace=True)
    assert 'inputs = ["data/words.csv"]' in error.hint
    assert "and failed (exit status 1)" in error.message


@both
@needs_strace
def test_a_traced_step_that_has_all_it_needs(flatpack: Flatpack, kind: Kind) -> None:
    """Programs look for much that is nowhere, and for their own outputs: that is no reason to complain."""
    (flatpack.root / "out.txt").write_text("an old one")
    command = "make; python3 -c 'import json, sqlite3'; git status || true; [ -e ../elsewhere ] || true"
    job = flatpack.job(command, "Makefile", "data/words.csv")
    assert flatpack.run(job, kind, trace=True) == {"out.txt": "a\n"}
    assert flatpack.heard.notes[-1] == "build step 'page' was traced: it looked for nothing that it does not declare"


@needs_strace
def test_what_a_staged_step_can_reach_but_must_not_read(flatpack: Flatpack) -> None:
    command = f"cat {flatpack.root}/data/words.csv > out.txt"
    assert flatpack.run(flatpack.job(command), "staged") == {"out.txt": "a\n"}
    error = flatpack.fail(flatpack.job(command), "staged", trace=True)
    assert 'inputs = ["data/words.csv"]' in error.hint
    shared = flatpack.root.parent / "shared"
    shared.write_text("x")
    error = flatpack.fail(flatpack.job(f"cat {shared} > out.txt"), "staged", trace=True)
    assert f"read {shared.resolve()}, outside the flatpack's folder" in error.message


@both
@needs_strace
def test_tracing_changes_nothing_of_how_a_step_ends(flatpack: Flatpack, kind: Kind) -> None:
    assert "(exit status 3)" in flatpack.fail(flatpack.job("exit 3"), kind, trace=True).message
    assert "SIGSEGV" in flatpack.fail(flatpack.job("kill -SEGV $$"), kind, trace=True).message
    # What is left running in the background does not hold up the step.
    start = time.monotonic()
    assert flatpack.run(flatpack.job("sleep 60 & echo done > out.txt"), kind, trace=True) == {"out.txt": "done\n"}
    assert time.monotonic() - start < 20


@both
@pytest.mark.parametrize("trace", [False, pytest.param(True, marks=needs_strace)])
def test_a_step_that_takes_too_long(flatpack: Flatpack, kind: Kind, trace: bool) -> None:
    start = time.monotonic()
    error = flatpack.fail(flatpack.job("echo begun; sleep 60", timeout=0.5), kind, trace=trace)
    assert time.monotonic() - start < 20
    assert "took longer than its timeout_seconds = 0.5 and was stopped\n  | begun" in error.message
    assert "[build.page]" in error.hint


def test_a_machine_that_cannot_trace(flatpack: Flatpack, tmp_path: Path) -> None:
    """Asked for and not to be had is an error: silence would be taken for an answer."""
    code = (
        "import pickle, sys\n"
        "from flatpack_build.executor.local import LocalExecutor\n"
        "from flatpack_build.errors import UsageError\n"
        "from tests.heard import Heard\n"
        "try: LocalExecutor({'FLATPACK_TRACE': sys.argv[1]}).run(pickle.load(sys.stdin.buffer), Heard())\n"
        "except UsageError as error: print(error)\n"
    )
    for wish, words in (("1", "strace is not installed"), ("0", ""), ("", "")):
        job = pickle.dumps(flatpack.job("echo > out.txt"))
        done = subprocess.run(
            [sys.executable, "-c", code, wish],
            input=job,
            env={"PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        )
        assert words in done.stdout.decode() if words and sys.platform == "linux" else bool(done.stdout) == bool(words)


@needs_strace
def test_the_environment_asks_for_the_trace(flatpack: Flatpack) -> None:
    job = flatpack.job("[ -f data/words.csv ] || touch out.txt")
    with pytest.raises(StepError, match=r"looked for data/words\.csv"):
        LocalExecutor({"FLATPACK_TRACE": "1"}).run(job, Heard())
