"""A declared build step: its inputs are all it has, its outputs are all it leaves, and each mistake is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from flatpack_build import events
from flatpack_build.errors import StepError
from flatpack_build.fs import walk_files
from flatpack_build.params import RunParams
from flatpack_build.sandbox import EPOCH, Kind, bubblewrap_problem
from flatpack_build.steps.run import run
from tests.heard import Heard

ROOT = Path(__file__).parent.parent.parent
KINDS = ("staged",) if bubblewrap_problem() else ("bubblewrap", "staged")
both = pytest.mark.parametrize("kind", KINDS)


class Bench:
    """A place to run steps in: the flatpack's own files, and a fresh ``out`` for each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = folder / "own"
        self.own.mkdir()
        self.out = folder / "out"
        self.inputs: dict[str, Path] = {"files": self.own}
        self.notes: list[str] = []

    def tree(self, name: str, files: Mapping[str, str]) -> Path:
        for path, text in files.items():
            target = self.folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return self.folder / name

    def run(self, command: str, *outputs: str, kind: Kind | None = None, **environment: str) -> dict[str, str]:
        """The files of ``out`` (an empty folder: with ``/``, an executable one: with ``*``) and their texts."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        listener = Heard()
        with events.listening(listener):
            run(RunParams("page", command, outputs, environment), self.inputs, self.out, kind=kind)
        self.notes = listener.notes
        found = {}
        for path, entry in walk_files(self.out):
            assert not entry.is_symlink()
            if path.endswith("/"):
                found[path] = ""
            else:
                found[path + "*" * bool(entry.stat().st_mode & 0o100)] = Path(entry.path).read_text()
        return found

    def fail(self, command: str, *outputs: str, kind: Kind | None = None) -> StepError:
        with pytest.raises(StepError) as caught:
            self.run(command, *outputs, kind=kind)
        # Whatever went wrong, nothing stays beside out.
        assert not [name for name in os.listdir(self.folder) if name.startswith(".run-")]
        assert caught.value.hint
        return caught.value


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@both
def test_hands_on_what_is_declared(bench: Bench, kind: Kind) -> None:
    bench.tree("own", {"data/words.txt": "b\na\n", "make.sh": 'mkdir -p site; sort data/words.txt > "$1"\n'})
    assert bench.run("sh make.sh site/words.txt", "site/words.txt", kind=kind) == {"site/words.txt": "a\nb\n"}
    assert sorted(path for path, _ in walk_files(bench.own)) == ["data/words.txt", "make.sh"]


@both
def test_says_which_sandbox_it_was(bench: Bench, kind: Kind) -> None:
    bench.run("touch a", "a", kind=kind)
    (note,) = bench.notes
    assert "'page'" in note
    assert ("in bubblewrap, without network" in note) == (kind == "bubblewrap")
    assert ("network and other files were within its reach" in note) == (kind == "staged")


def test_takes_the_best_sandbox_there_is(bench: Bench) -> None:
    bench.run("touch a", "a")
    assert ("bubblewrap, without network" in bench.notes[0]) == (not bubblewrap_problem())


def test_environment_and_no_inputs(bench: Bench) -> None:
    bench.inputs = {}
    assert bench.run('echo "$GREETING" > a', "a", GREETING="it's $HOME") == {"a": "it's $HOME\n"}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (["site/*.html", "log.txt", "site/deep", "empty"], {"site/a.html", "log.txt", "site/deep/b.html", "empty/"}),
        (["site", "*.txt", "empty"], {"site/a.html", "site/deep/b.html", "log.txt", "empty/"}),
        (["site/", "log.txt"], {"site/a.html", "site/deep/b.html", "log.txt"}),
        (["**/*.html", "log.*"], {"site/a.html", "site/deep/b.html", "log.txt"}),
        (["*"], {"site/a.html", "site/deep/b.html", "log.txt", "empty/", "in.csv"}),
    ],
)
def test_patterns_and_folders(bench: Bench, outputs: list[str], expected: set[str]) -> None:
    bench.tree("own", {"in.csv": ""})
    command = "mkdir -p site/deep empty; echo 1 > site/a.html; echo 2 > site/deep/b.html; echo 3 > log.txt"
    assert set(bench.run(command, *outputs)) == expected


def test_executability_is_kept_and_nothing_else(bench: Bench) -> None:
    found = bench.run("echo 1 > a; echo 2 > b; chmod 700 a; chmod 000 b", "a", "b")
    assert found == {"a*": "1\n", "b": "2\n"}
    assert [(bench.out / name).stat().st_mode & 0o777 for name in "ab"] == [0o755, 0o644]


def test_an_input_may_be_an_output(bench: Bench) -> None:
    bench.tree("own", {"build.sh": "echo hello\n", "b": ""})
    (bench.own / "build.sh").chmod(0o444)
    assert bench.run("chmod +x build.sh", "build.sh") == {"build.sh*": "echo hello\n"}
    assert bench.run("echo 'echo bye' > build.sh", "build.sh") == {"build.sh": "echo bye\n"}
    assert (bench.own / "build.sh").read_text() == "echo hello\n"


def test_inputs_have_one_fixed_time_and_keep_executability(bench: Bench) -> None:
    bench.tree("own", {"deep/run.sh": "exit 0\n", "plain": ""})
    (bench.own / "deep/run.sh").chmod(0o555)
    (bench.own / "nothing").mkdir()
    found = bench.run("deep/run.sh; python3 -c \"import os; print(os.stat('plain').st_mtime)\" > a; ls -p >> a", "a")
    assert found["a"].split() == [f"{EPOCH}.0", "a", "deep/", "nothing/", "plain"]


def test_what_another_step_made_is_there_too(bench: Bench) -> None:
    bench.tree("own", {"words.txt": "own", "own.txt": "own"})
    bench.inputs["from words"] = bench.tree("words", {"words.txt": "made", "more/x": "x"})
    bench.inputs["from again"] = bench.tree("again", {"more/x": "x"})
    assert bench.run("cat words.txt own.txt more/x > a", "a") == {"a": "madeownx"}
    bench.tree("again", {"more/x": "another x"})
    error = bench.fail("touch a", "a")
    assert "two different files more/x: from again and from words" in error.message


def test_the_same_again_gives_the_same(bench: Bench) -> None:
    bench.tree("own", {"a.py": "import os, time\nprint({'b', 'a', 'c'}, os.environ['SOURCE_DATE_EPOCH'], hash('x'))\n"})
    assert bench.run("python3 a.py > a; date -u -r a.py >> a", "a") == bench.run(
        "python3 a.py > a; date -u -r a.py >> a", "a"
    )


@both
def test_a_command_that_fails(bench: Bench, kind: Kind) -> None:
    error = bench.fail(
        "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; echo broken >&2; exit 3", "a", kind=kind
    )
    assert "build step 'page' failed (exit status 3)" in error.message
    assert error.message.count("\n  | ") == 20
    assert error.message.endswith("line 49\n  | broken")


@both
@pytest.mark.parametrize("command", ["kill -SEGV $$", "sh -c 'kill -SEGV $$'"])
def test_a_command_that_crashes(bench: Bench, kind: Kind, command: str) -> None:
    assert "(exit status 139, SIGSEGV)" in bench.fail(command, "a", kind=kind).message


def test_a_silent_failure(bench: Bench) -> None:
    assert bench.fail("exit 250", "a").message.endswith("(exit status 250): it printed nothing")


@both
def test_an_undeclared_input_is_not_there(bench: Bench, kind: Kind) -> None:
    (bench.folder / "project").mkdir()
    bench.tree("project", {"words.txt": "words"})
    error = bench.fail("cat words.txt > a", "a", kind=kind)
    assert "No such file" in error.message
    assert "inputs = [...]" in error.hint


def test_a_missing_program(bench: Bench) -> None:
    error = bench.fail("no-such-program", "a")
    assert "status 127" in error.message
    assert "/usr/bin" in error.hint


@pytest.mark.skipif(bool(bubblewrap_problem()), reason="only bubblewrap cuts the network")
def test_a_step_that_wants_the_network(bench: Bench) -> None:
    error = bench.fail("python3 -c \"import urllib.request; urllib.request.urlopen('http://example.invalid/')\"", "a")
    assert "no network" in error.hint


def test_a_missing_output(bench: Bench) -> None:
    error = bench.fail("mkdir site; touch site/a.html", "site/*.css", "site", "b.html")
    assert "did not make its declared output site/*.css, b.html" in error.message


def test_undeclared_files(bench: Bench) -> None:
    bench.tree("own", {"in/a": "a", "in/b": "b", "in/c": "c"})
    error = bench.fail("touch a junk.log; mkdir x; touch x/y", "a")
    assert "made files that are not its outputs: junk.log, x/y" in error.message
    assert 'add it to outputs = ["junk.log", "x/y"]' in error.hint
    error = bench.fail("touch a; echo more >> in/b; chmod +x in/c", "a")
    assert "changed files that are not its outputs: in/b, in/c" in error.message
    assert 'outputs = ["in/b", "in/c"]' in error.hint
    assert "deleted files that are not its outputs: in/a" in bench.fail("touch a; rm in/a", "a").message
    assert "changed files that are not its outputs: in/a" in bench.fail("touch a; ln -sf b in/a", "a").message


def test_a_file_changed_to_the_same_size_and_time(bench: Bench) -> None:
    bench.tree("own", {"in": "aaaa"})
    assert "changed" in bench.fail(f"touch a; printf bbbb > in; touch -d @{EPOCH} in", "a").message


def test_many_undeclared_files_are_counted(bench: Bench) -> None:
    error = bench.fail("i=10; while [ $i -lt 50 ]; do touch f$i; i=$((i+1)); done", "a")
    assert "f10, f11, f12, f13, f14, f15, f16, f17 and 32 more" in error.message


def test_compiled_python_is_no_undeclared_file(bench: Bench) -> None:
    bench.tree("own", {"lib.py": "A = 1\n"})
    assert set(bench.run("PYTHONDONTWRITEBYTECODE= python3 -c 'import lib'; ls __pycache__/* > a", "a")) == {"a"}


def test_scratch_files_belong_below_tmpdir(bench: Bench) -> None:
    assert set(bench.run('echo x > "$TMPDIR/scratch"; cp "$TMPDIR/scratch" a', "a")) == {"a"}


@both
def test_links(bench: Bench, kind: Kind) -> None:
    bench.tree("own", {"in/words": "words"})
    assert bench.run("mkdir s; ln -s ../in/words s/a; ln -s a s/b; ln in/words hard", "s", "hard", kind=kind) == {
        "s/a": "words", "s/b": "words", "hard": "words",
    }  # fmt: skip
    assert (bench.out / "hard").stat().st_nlink == 1
    for target, problem in (
        ("../../../etc/hosts", "leads out of the folder"),
        ("/etc/hosts", "absolute path"),
        ("nowhere", "does not exist"),
        (".", "no file"),
        ("a", "does not exist"),
    ):
        error = bench.fail(f"ln -s {target} a", "a", kind=kind)
        assert "the output a is a link" in error.message
        assert problem in error.message


@both
def test_special_files_and_names(bench: Bench, kind: Kind) -> None:
    assert "is a pipe, socket or device" in bench.fail("mkfifo a", "a", kind=kind).message
    assert bench.run("touch 'a b' 'c\nd' \u00e9 -- -e", "*", kind=kind) == dict.fromkeys(
        ["a b", "c\nd", "\u00e9", "-e"], ""
    )
    assert "a name that is not UTF-8" in bench.fail(r"touch a; touch $(printf 'x\377')", "*", kind=kind).message


def test_an_output_that_cannot_be_kept(bench: Bench) -> None:
    """A folder that the step has closed is opened or named, never a traceback."""
    try:
        found = bench.run("mkdir s; touch s/a; chmod 000 s", "s")
    except StepError as error:  # not for root
        assert "could not be carried out" in error.message
    else:
        assert found == {"s/a": ""}


def test_the_errors_do_not_name_this_machines_folders(bench: Bench) -> None:
    assert str(bench.folder) not in str(bench.fail("touch b", "a"))


def test_hello_docs(bench: Bench) -> None:
    """The flatpack without a model: its declared step makes the sheet, from exactly its declared inputs."""
    folder = ROOT / "warehouse" / "hello-docs"
    step = tomllib.loads((folder / "flatpack.toml").read_text())["build"]["sheet"]
    bench.tree("own", {path: (folder / path).read_text() for path in step["inputs"]})
    page = bench.run(step["command"], *step["outputs"])["sheet.html"]
    assert page.count('<th scope="row">') == 5
    assert '<td class="limit">-2 °C</td>' in page

    (bench.folder / "readings.csv").write_text("time,temperature,soil\n10:00,20,30\n10:05,40,\n")
    arguments: list[str | Path] = [
        "python3",
        folder / "scripts/check_readings.py",
        folder / "data/sensors.csv",
        bench.folder / "readings.csv",
    ]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[0][:31]) == (1, "10:05  Air temperature 40 °C  (")
    (bench.folder / "readings.csv").write_text("time,temperature\n10:00,warm\n")
    assert subprocess.run(arguments, capture_output=True).returncode == 2
