"""What a build leaves for those who were not there: records, summaries, JUnit; and what happens where it cannot."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from flatpack_build.sandbox import bubblewrap_problem
from tests.e2e.conftest import GREETING, Project, make_project


def add_flatpack(project: Project, name: str) -> Path:
    folder = project.write(name, GREETING.replace("small", name), {"words.txt": f"hello {name}\n"})
    project.flatpack("lock", name)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("reports")
    project = make_project(root / "project", root / "cache")
    add_flatpack(project, "small")
    project.doit("build:small")
    shutil.rmtree(project.root / "build/records")
    (project.root / "build/record.jsonl").unlink()
    return project


@pytest.fixture
def small(shared: Project, tmp_path: Path) -> Project:
    """A project in which ``small`` was built; its own copy."""
    shutil.copytree(shared.root, tmp_path / "project", symlinks=True)
    shutil.copytree(shared.cache, tmp_path / "cache")
    return Project(tmp_path / "project", tmp_path / "cache")


def edit(project: Project, text: str = "good day\n") -> None:
    (project.root / "warehouse/small/words.txt").write_text(text)


def break_step(project: Project) -> None:
    project.edit("warehouse/small/flatpack.toml", "tr a-z A-Z", "echo 'no | luck'; exit 3; tr")


def states(file: Path) -> dict[str, str]:
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return {line["action"]: line["state"] for line in found}


def records(project: Project) -> list[Path]:
    return sorted((project.root / "build/records").glob("*"))


# --- records


def test_a_record_names_every_action_and_a_no_op_has_none(small: Project) -> None:
    small.doit("build:small")
    assert records(small) == []
    edit(small)
    small.doit("build:small@pi5")
    (record,) = records(small)
    found = states(record)
    assert found == states(small.root / "build/record.jsonl")
    assert found == {
        "run:small/greeting": "built", "device:small@pi5": "up to date", "assemble:small@pi5": "built",
        "pack:small@pi5": "built",
    }  # fmt: skip
    line = json.loads(record.read_text().splitlines()[0])
    kind = "staged" if bubblewrap_problem() else "bubblewrap"
    assert line["executor"] == f"local, {kind}"
    assert line["inputs"]["files"].startswith("tree:")


def test_a_failed_build_records_what_failed_and_what_was_not_run(small: Project) -> None:
    break_step(small)
    assert small.doit("build:small", check=False).returncode == 1
    found = states(small.root / "build/record.jsonl")
    assert found["run:small/greeting"] == "failed"
    assert found["pack:small@pi5"] == "not run"
    lines = [json.loads(line) for line in (small.root / "build/record.jsonl").read_text().splitlines()]
    (failed,) = (line for line in lines if line["state"] == "failed")
    assert "exit status 3" in failed["error"]
    assert failed["error_type"] == "StepError"
    assert len(failed["key"]) == 64
    assert {line["error"] for line in lines if line["action"] == "pack:small@pi5"} == {"needs run:small/greeting"}


def test_two_builds_at_once_do_not_mix_their_records(small: Project) -> None:
    add_flatpack(small, "other")
    edit(small)
    builds = [small.start("doit", f"build:{name}") for name in ("small", "other")]
    said = [build.communicate(timeout=120)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    found = [{name.split(":")[1].split("@")[0].split("/")[0] for name in states(record)} for record in records(small)]
    assert sorted(map(sorted, found)) == [["other"], ["small"]]


def test_a_killed_build_leaves_whole_lines(small: Project) -> None:
    more = '\n[build.slow]\ncommand = "sleep 20; echo x > slow.txt"\noutputs = ["slow.txt"]\n'
    small.edit("warehouse/small/flatpack.toml", 'outputs = ["greeting.txt"]\n', f'outputs = ["greeting.txt"]\n{more}')
    edit(small)
    build = small.start("doit", "build:small")
    end = time.monotonic() + 15
    while not any(record.stat().st_size for record in records(small)):
        assert time.monotonic() < end
        time.sleep(0.05)
    build.send_signal(signal.SIGKILL)
    build.communicate()
    (record,) = records(small)
    assert states(record) == {"run:small/greeting": "built"}
    small.edit("warehouse/small/flatpack.toml", "sleep 20; ", "")
    small.doit("build:small")
    assert states(small.root / "build/record.jsonl")["pack:small@pi5"] == "built"


# --- summary and JUnit


def test_reports_of_a_good_build_from_any_folder(small: Project, tmp_path: Path) -> None:
    edit(small)
    small_folder = Project(small.root / "warehouse/small", small.cache)
    small_folder.flatpack("build", "small", "--summary", "../../s.md", "--junit", "deep/j.xml", "--record", "r.jsonl")
    summary = (small.root / "s.md").read_text()
    assert summary.startswith("## 2 boxes")
    assert "`small-0.1.0-pi5.fpk`" in summary
    assert "`run:small/greeting`" in summary
    suite = ET.parse(small.root / "warehouse/small/deep/j.xml").getroot()[0]
    assert suite.get("tests") == "7"
    assert suite.get("failures") == "0"
    assert states(small.root / "warehouse/small/r.jsonl") == states(small.root / "build/record.jsonl")


def test_a_no_op_is_reported_when_asked_for(small: Project) -> None:
    small.flatpack("build", "small", "--summary", "s.md", "--junit", "j.xml", "--record", "r.jsonl")
    assert "| up to date |" in (small.root / "s.md").read_text()
    assert set(states(small.root / "r.jsonl").values()) == {"up to date"}
    assert len(states(small.root / "r.jsonl")) == 7


def test_reports_of_a_failed_build_by_doit(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATPACK_SUMMARY", "s.md")
    monkeypatch.setenv("FLATPACK_JUNIT", "j.xml")
    break_step(small)
    small.doit("list")
    assert not (small.root / "s.md").exists()  # a listing is no build
    assert small.doit("--continue", "build:small", check=False).returncode != 0
    summary = (small.root / "s.md").read_text()
    assert summary.startswith("## The build failed: 1 of 7 actions")
    assert "exit status 3" in summary
    assert os.fspath(small.root) not in summary
    root = ET.parse(small.root / "j.xml").getroot()
    failure = root.find(".//failure")
    assert failure is not None
    assert "exit status 3" in failure.get("message", "")
    assert len(root.findall(".//skipped")) == 4


def test_reports_of_a_build_that_cannot_begin(small: Project) -> None:
    small.edit("warehouse/small/flatpack.toml", "version =", "versoin =")
    done = small.flatpack("build", "small", "--summary", "s.md", "--junit", "j.xml", check=False)
    assert done.returncode != 0
    assert "warehouse/small/flatpack.toml:1:1" in (small.root / "s.md").read_text()
    assert "did you mean 'version'" in (ET.parse(small.root / "j.xml").getroot().findtext(".//failure") or "")


def test_a_failed_task_of_the_users_own_is_reported(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (small.root / "dodo.py").write_text("def task_own():\n    return {'actions': ['false']}\n")
    monkeypatch.setenv("FLATPACK_SUMMARY", "s.md")
    small.doit("own", check=False)
    assert "`own`" in (small.root / "s.md").read_text()


def test_an_interrupted_build_is_reported(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATPACK_SUMMARY", os.fspath(small.root / "s.md"))
    small.edit("warehouse/small/flatpack.toml", "tr a-z A-Z", "sleep 20; tr a-z A-Z")
    build = small.start("doit", "build:small")
    end = time.monotonic() + 15
    while not list((small.cache / "tmp").glob("*/run-*")):  # where the step runs
        assert time.monotonic() < end
        time.sleep(0.05)
    build.send_signal(signal.SIGINT)
    said, _ = build.communicate(timeout=60)
    assert "Traceback" not in said
    assert (small.root / "s.md").read_text().startswith("## The build was not finished")


def test_the_page_of_a_github_job_is_appended_to(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    page = small.root / "page.md"
    page.write_text("# Before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", os.fspath(page))
    assert "## 2 boxes" not in small.flatpack("build", "small", "--summary", "-").stdout
    assert page.read_text().startswith("# Before\n\n## 2 boxes")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert "## 2 boxes" in small.flatpack("build", "small", "--summary", "-").stdout


def test_a_report_that_cannot_be_written_is_an_error_and_the_others_are_written(small: Project) -> None:
    edit(small)
    done = small.flatpack("build", "small", "--summary", "/dev/full", "--junit", "j.xml", check=False)
    assert done.returncode != 0
    assert "cannot write the summary of the build, /dev/full: No space left on device" in done.stderr
    assert "built    pack:small@pi5" in done.stdout
    assert (small.root / "j.xml").exists()
    assert small.flatpack("build", "small").returncode == 0


def test_a_place_for_a_report_that_cannot_be_is_refused_before_the_work(small: Project) -> None:
    edit(small)
    done = small.flatpack("build", "small", "--summary", "warehouse", check=False)
    assert "it is a folder" in done.stderr
    assert "built" not in done.stdout
    done = small.flatpack("build", "small", "--junit", "pyproject.toml/j.xml", check=False)
    assert "pyproject.toml cannot be written to" in done.stderr


# --- locked


@pytest.mark.parametrize("how", ["option", "variable"])
def test_locked_makes_no_lock(small: Project, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = small.root / "warehouse/small/flatpack.lock"
    lock.unlink()
    if how == "variable":
        monkeypatch.setenv("FLATPACK_LOCKED", "1")
        done = small.doit("build:small", check=False)
    else:
        done = small.flatpack("build", "--locked", "small", check=False)
    assert done.returncode != 0
    assert "flatpack.lock: there is no lock, and this build may not make one" in done.stderr
    assert "flatpack lock small" in done.stderr
    assert not lock.exists()
    monkeypatch.setenv("FLATPACK_LOCKED", "0")
    small.doit("build:small")
    assert lock.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[[file]]\nfrom_source = "words.txt"\nto_destination = "copy.txt"\n', "the manifest needs and the lock lacks"),
        ("", "the lock has and the manifest does not name"),
    ],
    ids=["the lock lacks something", "the lock has too much"],
)
def test_locked_refuses_a_lock_that_would_have_to_change(small: Project, more: str, said: str) -> None:
    manifest = small.root / "warehouse/small/flatpack.toml"
    lock = small.root / "warehouse/small/flatpack.lock"
    url = 'from_source = "https://127.0.0.1:1/x"\nto_destination = "x"\n'
    if more:
        manifest.write_text(manifest.read_text() + "\n[[file]]\n" + url)
    else:
        entry = '\n[[source]]\nsource = "https://127.0.0.1:1/x"\nsize = 3\n\n[source.files]\nx = "' + "a" * 64 + '"\n'
        lock.write_text(lock.read_text() + entry)
    before = lock.read_bytes()
    done = small.flatpack("build", "--locked", "small", check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert "run: flatpack lock small" in done.stderr
    assert lock.read_bytes() == before


def test_locked_builds_with_a_lock_that_fits_and_leaves_it(small: Project) -> None:
    lock = small.root / "warehouse/small/flatpack.lock"
    before = lock.read_bytes(), lock.stat().st_mtime_ns
    edit(small)
    small.flatpack("build", "--locked", "small")
    assert (lock.read_bytes(), lock.stat().st_mtime_ns) == before


# --- disks that are full or read-only

needs_bubblewrap = pytest.mark.skipif(bool(bubblewrap_problem()), reason=bubblewrap_problem() or "it works")


def inside(project: Project, mounts: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run flatpack with other things mounted; the rest of the machine is as it is."""
    environment = {**os.environ, "FLATPACK_CACHE": os.fspath(project.cache), "NO_COLOR": "1"}
    command = ["bwrap", "--dev-bind", "/", "/", *mounts, sys.executable, "-m", "flatpack_build", *arguments]
    done = subprocess.run(
        command, cwd=project.root, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done


def full_disk(project: Project, folder: str) -> list[str]:
    """A disk without a free byte at ``folder``."""
    fill = f'head -c 100000 /dev/zero > {folder}/full; exec "$@"'
    mount = ["--size", "65536", "--tmpfs", os.fspath(project.root / folder)]
    return [*mount, "--chdir", os.fspath(project.root), "sh", "-c", fill, "sh"]


@needs_bubblewrap
def test_a_full_disk_under_the_record_costs_only_the_record(small: Project) -> None:
    edit(small)
    done = inside(small, full_disk(small, "build"), "build", "small", "--junit", "j.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: the record of this build is not complete" in done.stdout
    assert "No space left on device" in done.stdout
    assert ET.parse(small.root / "j.xml").getroot()[0].get("tests") == "7"
    assert small.built("build:small") == []


@needs_bubblewrap
def test_a_full_disk_under_the_summary_is_an_error(small: Project) -> None:
    edit(small)
    (small.root / "report").mkdir()
    done = inside(small, full_disk(small, "report"), "build", "small", "--summary", "report/s.md", "--junit", "j.xml")
    assert done.returncode != 0
    assert "cannot write the summary of the build" in done.stderr
    assert "No space left on device" in done.stderr
    assert (small.root / "j.xml").exists()


@needs_bubblewrap
def test_a_read_only_project(small: Project) -> None:
    frozen = ["--ro-bind", os.fspath(small.root), os.fspath(small.root)]
    done = inside(small, frozen, "build", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 up to date" in done.stdout
    edit(small)
    done = inside(small, frozen, "build", "small")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"cannot write .*dist/small-0\.1\.0-", done.stdout)
    assert "make dist writable" in done.stdout
    assert "Read-only file system" in done.stdout
    refused = inside(small, frozen, "build", "small", "--summary", "s.md")
    assert refused.returncode != 0
    assert "s.md" in refused.stderr
    # What was made is in the cache: once the folder can be written to, only the boxes are put there.
    assert small.built("build:small") == []


@needs_bubblewrap
def test_a_read_only_build_folder_costs_only_memory(small: Project) -> None:
    edit(small)
    frozen = ["--ro-bind", os.fspath(small.root / "build"), os.fspath(small.root / "build")]
    done = inside(small, frozen, "build", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: the record of this build is not complete" in done.stdout
