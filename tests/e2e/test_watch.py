"""``flatpack watch`` as a process of its own, and real edits under its eyes."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import GREETING, WORDS, Project, make_project

MANIFEST = GREETING.replace(', "pi5"', "")


class Watching:
    """A running ``flatpack watch`` and the lines that it has said."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.project = project
        self.process = project.start("flatpack_build", "watch", *arguments)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """The next line with ``pattern`` in it."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} within {seconds} s in:\n{self.said}") from None
            assert line is not None, f"it ended with {self.process.wait()}, without {pattern!r}:\n{self.said}"
            self.said += line + "\n"
            if re.search(pattern, line):
                return line

    def silent(self, seconds: float) -> None:
        """Nothing is said for so long."""
        with pytest.raises(queue.Empty):
            raise AssertionError(f"said {self._lines.get(timeout=seconds)!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> str:
        """Ctrl-C; the last lines."""
        self.process.send_signal(signal.SIGINT)
        rest = []
        while (line := self._lines.get(timeout=30)) is not None:
            rest.append(line)
        self.process.wait(30)
        return "\n".join(rest)


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    """One for the whole file: each test leaves the flatpack buildable."""
    root = tmp_path_factory.mktemp("watch")
    project = make_project(root / "project", root / "cache")
    project.write("small", MANIFEST, WORDS)
    watching = Watching(project, "small")
    try:
        watching.wait_for("Ctrl-C ends it")
        yield watching
    finally:
        watching.close()


@pytest.fixture
def folder(watching: Watching) -> Path:
    return watching.project.root / "warehouse/small"


def test_the_first_build_is_told_whole(watching: Watching) -> None:
    assert "built    run:small/greeting" in watching.said
    assert "small-0.1.0-laptop.fpk" in watching.said
    watching.silent(0.8)  # the lock that it has made itself is no change


def test_an_edit_is_one_line(watching: Watching, folder: Path) -> None:
    before = watching.project.boxes["laptop"].read_bytes()
    (folder / "words.txt").write_text("good day\n")
    line = watching.wait_for("words.txt")
    assert re.fullmatch(r"\d\d:\d\d:\d\d run, assemble, pack: 1 box in \d+\.\d s  \(words\.txt changed\)", line)
    assert watching.project.boxes["laptop"].read_bytes() != before
    watching.silent(0.8)


def test_a_burst_is_one_build(watching: Watching, folder: Path) -> None:
    for number in range(20):
        (folder / f"page{number}.md").write_text("x")
        time.sleep(0.01)
    assert "page0.md, page1.md and 18 more changed" in watching.wait_for("page")
    watching.silent(0.8)
    for number in range(20):
        (folder / f"page{number}.md").unlink()
    watching.wait_for("page")


def test_a_touch_is_nothing_to_do(watching: Watching, folder: Path) -> None:
    os.utime(folder / "words.txt")
    assert "nothing to do" in watching.wait_for("words.txt")


def test_going_back_comes_from_the_cache(watching: Watching, folder: Path) -> None:
    (folder / "words.txt").write_text("hello\n")
    assert "from the cache: 1 box" in watching.wait_for("words.txt")


def test_what_editors_and_builds_leave_is_no_change(watching: Watching, folder: Path) -> None:
    for name in (".words.txt.swp", "words.txt~", "#words.txt#", ".#words.txt", "words.txt.tmp", "notes.bak"):
        (folder / name).write_text("x")
    (folder / "4913").write_text("")
    (folder / "4913").unlink()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/a.pyc").write_text("x")
    (watching.project.root / "build/other").write_text("x")
    watching.silent(1.2)
    for path in folder.iterdir():
        if path.name not in ("flatpack.toml", "flatpack.lock", "words.txt"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    watching.silent(0.8)


def test_an_editor_that_writes_beside_and_renames(watching: Watching, folder: Path) -> None:
    (folder / "words.txt.new123").write_text("renamed into place\n")
    os.replace(folder / "words.txt.new123", folder / "words.txt")
    assert "(words.txt changed)" in watching.wait_for("words.txt")


def test_a_failure_is_told_and_watching_goes_on(watching: Watching, folder: Path) -> None:
    (folder / "flatpack.toml").write_text(MANIFEST.replace("tr a-z A-Z", "echo no such luck; exit 3; tr"))
    watching.wait_for(r"FAILED in .* \(flatpack\.toml changed\)")
    watching.wait_for("run:small/greeting: .*exit status 3")
    watching.wait_for("no such luck")
    (folder / "flatpack.toml").write_text(MANIFEST.replace("version =", "versoin ="))
    watching.wait_for("FAILED")
    assert "did you mean 'version'" in watching.wait_for("flatpack.toml:1:1")
    (folder / "flatpack.toml").write_text(MANIFEST)
    watching.wait_for(r"in .* s  \(flatpack\.toml changed\)")


def test_a_lock_that_no_longer_fits_is_said(watching: Watching, folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    text = '\n[[file]]\nfrom_source = "notes.txt"\nto_destination = "notes.txt"\n\n[packages.python]\nidna = "*"\n'
    (folder / "flatpack.toml").write_text(MANIFEST + text)
    watching.wait_for("FAILED")
    assert "does not match the manifest" in watching.wait_for("flatpack.lock")
    watching.wait_for("run: flatpack lock small")
    (folder / "notes.txt").unlink()
    (folder / "flatpack.toml").write_text(MANIFEST)
    watching.wait_for(r"in .* s  \(flatpack\.toml")


def test_profiles_and_settings_are_watched(watching: Watching, folder: Path) -> None:
    targets = watching.project.root / "targets"
    targets.mkdir()  # it was not there before
    builtin = Path(__file__).parents[2] / "targets/laptop.toml"
    (targets / "laptop.toml").write_text(builtin.read_text())
    watching.wait_for(r"in .* s  \(targets")
    (targets / "laptop.toml").write_text(builtin.read_text().replace("description = ", "description = 'Mine. ' #"))
    watching.wait_for(r"in .* s  \(targets/laptop.toml changed\)")
    (targets / "README.md").write_text("no profile")
    watching.silent(0.8)
    with open(watching.project.root / "pyproject.toml", "a") as file:
        file.write("jobs = 1\n")
    assert "nothing to do" in watching.wait_for(r"\(pyproject.toml changed\)")


def test_a_folder_that_goes_and_comes_back(watching: Watching, folder: Path) -> None:
    away = folder.with_name(".away")
    folder.rename(away)
    watching.wait_for("FAILED")
    watching.wait_for("small")
    shutil.copytree(away, folder)
    shutil.rmtree(away)
    watching.wait_for(r"in .* s  \(warehouse/small changed\)")
    (folder / "words.txt").write_text("in the new folder\n")
    watching.wait_for(r"1 box in .* s  \(words.txt changed\)")


def test_an_edit_during_a_build_is_not_lost(watching: Watching, folder: Path) -> None:
    slow = MANIFEST.replace("tr a-z", "sleep 2; tr a-z")
    (folder / "flatpack.toml").write_text(slow)
    time.sleep(1.5)
    (folder / "words.txt").write_text("written meanwhile\n")
    watching.wait_for(r"flatpack\.toml")
    watching.wait_for(r"words\.txt changed")
    (folder / "flatpack.toml").write_text(MANIFEST)
    watching.wait_for(r"flatpack\.toml")


def test_ctrl_c_ends_it_also_during_a_build(watching: Watching, folder: Path) -> None:
    (folder / "flatpack.toml").write_text(MANIFEST.replace("tr a-z", "sleep 30; tr a-z"))
    time.sleep(2.5)
    start = time.monotonic()
    said = watching.end()
    assert time.monotonic() - start < 15
    assert watching.process.returncode == 0
    assert said.endswith("watching has ended")
    assert "Traceback" not in watching.said + said


def test_mistakes_are_told_at_once(project: Project) -> None:
    assert "there is no flatpack 'absent'" in project.flatpack("watch", "absent", check=False).stderr
    assert "there is no flatpack to watch" in project.flatpack("watch", check=False).stderr
    project.write("small", MANIFEST)
    unknown = project.flatpack("watch", "small@pi6", check=False)
    assert unknown.returncode == 2
    assert "small is not built for 'pi6'" in unknown.stderr
    (project.root / "keys/development.pem").unlink()
    refused = project.flatpack("watch", "small", check=False)
    assert refused.returncode != 0
    assert "there is no key to sign the boxes with" in refused.stderr
