"""A build of nothing: known at once, and never wrongly. Each change comes after builds that left a stamp."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import GREETING, WORDS, Project, make_project

PROFILE = """\
description = "A board"
architecture = "aarch64"
os = "linux"
glibc = "2.36"
python = "3.11"
gguf_quants = ["Q4_0"]
threads = {threads}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("nothing")
    project = make_project(root / "project", root / "cache")
    project.write("small", GREETING.replace("pi5", "board"), WORDS)
    (project.root / "targets").mkdir()
    (project.root / "targets/board.toml").write_text(PROFILE.format(threads=4))
    project.doit("build:small")
    return project


@pytest.fixture
def settled(built: Project) -> Project:
    """The project with a stamp that holds: nothing changed for a while, and a build has looked at it since."""
    time.sleep(0.25)
    built.doit()
    assert stamp_of(built).exists()
    return built


def stamp_of(project: Project) -> Path:
    return project.root / "build/stamps/small.json"


def append(file: str, text: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        with open(project.root / file, "a") as stream:
            stream.write(text)

    return change


def write(file: str, text: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        (project.root / file).write_text(text)

    return change


PACKS = ["pack:small@board", "pack:small@laptop"]


@pytest.mark.parametrize(
    ("change", "ran"),
    [
        (append("warehouse/small/words.txt", "more\n"), ["assemble:small", *PACKS, "run:small/greeting"]),
        (write("warehouse/small/new.txt", "new"), ["assemble:small", *PACKS]),
        (append("warehouse/small/flatpack.toml", "\n[agent]\nport = 9000\n"), PACKS),
        (append("warehouse/small/flatpack.toml", "# a comment\n"), []),
        (write("targets/board.toml", PROFILE.format(threads=2)), ["device:small@board", "pack:small@board"]),
        (lambda project: shutil.rmtree(project.root / "dist"), []),
        (lambda project: (project.root / "warehouse/small/new.txt").unlink(missing_ok=True), None),
    ],
)
def test_each_change_is_seen(settled: Project, change: Callable[[Project], None], ran: list[str] | None) -> None:
    change(settled)
    # Both targets share one assemble; either of the two may be the one that runs it.
    built = sorted(name.partition("@")[0] if name.startswith("assemble") else name for name in settled.built())
    if ran is not None:
        assert built == ran
    assert sorted(settled.boxes) == ["board", "laptop"]
    assert settled.record() == []


def test_a_box_that_was_tampered_with_is_put_right(settled: Project) -> None:
    box = settled.boxes["board"]
    before = box.read_bytes()
    status = box.stat()
    box.unlink()
    box.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    os.utime(box, ns=(status.st_atime_ns, status.st_mtime_ns))
    settled.doit("build:small@board")
    assert box.read_bytes() == before


@pytest.mark.parametrize("suffix", ["", ".sbom.cdx.json", ".provenance.json"])
def test_a_box_that_was_written_to_where_it_stands_is_put_right(settled: Project, suffix: str) -> None:
    """The box is a link into the cache: what is written into the one is in the other."""
    box = settled.boxes["board"]
    changed = box.with_name(box.name + suffix)
    before = changed.read_bytes()
    changed.chmod(0o644)
    with open(changed, "r+b") as file:
        file.seek(len(before) // 2)
        file.write(bytes([before[len(before) // 2] ^ 1]))
    settled.doit("build:small@board")
    settled.flatpack("verify", "dist", "--key", "keys/development.pub.pem")
    if suffix:
        assert changed.read_bytes() == before
    assert settled.flatpack("cache", "verify").stdout.count("damaged") == 0
    assert settled.record("build:small@board") == []


def test_another_key_signs_again(settled: Project) -> None:
    before = {target: box.read_bytes() for target, box in settled.boxes.items()}
    shutil.rmtree(settled.root / "keys")
    settled.flatpack("keygen", "--development")
    assert settled.built() == []
    for target, box in settled.boxes.items():
        assert box.read_bytes() != before[target]
    settled.flatpack("verify", "dist", "--key", "keys/development.pub.pem")


def test_a_stamp_holds_for_one_target_too(settled: Project) -> None:
    stamp_of(settled).unlink()
    settled.doit("build:small@board")
    assert [box["target"] for box in json.loads(stamp_of(settled).read_text().splitlines()[0])["boxes"]] == ["board"]
    done = settled.doit("build:small@board").stdout
    assert "4 up to date" in done or "5 up to date" in done
    assert sorted(settled.boxes) == ["board", "laptop"]
    (settled.root / "dist/small-0.1.0-laptop.fpk").unlink()
    settled.doit("build:small")
    assert sorted(settled.boxes) == ["board", "laptop"]


def test_without_a_stamp_the_keys_judge_and_leave_one(settled: Project) -> None:
    """As in a fresh checkout with a kept cache: nothing runs, and no task but the group's is made."""
    (settled.root / "dodo.py").write_text(
        "from doit.control import TaskControl\nmade = TaskControl.__init__\n"
        "def told(self, tasks, *args, **kwargs):\n"
        "    print('tasks:', [task.name for task in tasks])\n    made(self, tasks, *args, **kwargs)\n"
        "TaskControl.__init__ = told\n"
    )
    try:
        shutil.rmtree(settled.root / "build")
        settled.doit()
        time.sleep(0.25)  # what lies beside the boxes was put in place a moment ago
        shutil.rmtree(settled.root / "build/stamps", ignore_errors=True)
        said = settled.doit().stdout
        assert "tasks: ['build:small']" in said
        assert "7 up to date" in said
        assert stamp_of(settled).exists()

        (settled.root / "warehouse/small/words.txt").write_text("and so on\n")
        assert "run:small/greeting" in settled.doit().stdout
    finally:
        (settled.root / "dodo.py").unlink()


def test_forget_is_stronger_than_a_stamp(settled: Project) -> None:
    settled.doit("forget", "build:small")
    assert "run:small/greeting" in settled.built("build:small")
    assert settled.built("build:small") == []


def test_nothing_heavy_is_loaded_to_find_nothing_to_do(settled: Project) -> None:
    (settled.root / "dodo.py").write_text(
        "import atexit, sys\n"
        "heavy = 'pydantic rich numpy cryptography requests pygit2 tomlkit llama_cpp jinja2 click'.split()\n"
        "heavy += ['flatpack_build.' + name for name in 'builder runner planner graph store.local'.split()]\n"
        "atexit.register(lambda: print('loaded:', [name for name in heavy if name in sys.modules]))\n"
    )
    try:
        assert "loaded: []" in settled.doit("build:small").stdout
    finally:
        (settled.root / "dodo.py").unlink()
