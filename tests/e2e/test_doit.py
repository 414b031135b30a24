"""doit behaves as its users expect: their own tasks, Ctrl-C, two builds at once, another reporter."""

from __future__ import annotations

import signal
import time

from tests.e2e.conftest import GREETING, WORDS, Project

SLOW = """\
version = "0.1.0"
targets = ["laptop"]

[environment]
model_name = "slow"

[build.slow]
command = "sleep 4; echo done > slow.txt"
outputs = ["slow.txt"]
"""

DODO = '''\
def task_copy():
    """Tasks of one's own, with doit's own idea of what is up to date."""
    for name in ("one", "two"):
        yield {
            "name": name,
            "file_dep": [f"{name}.txt"],
            "targets": [f"{name}.out"],
            "actions": [f"cp {name}.txt {name}.out"],
        }
'''


def test_own_tasks_run_beside_those_of_flatpacks(project: Project) -> None:
    (project.root / "dodo.py").write_text(DODO)
    for name in ("one", "two"):
        (project.root / f"{name}.txt").write_text(name)
    assert "done     copy:one" in project.doit("copy:one").stdout
    assert "copy:one" not in project.doit("copy:one").stdout
    (project.root / "one.txt").write_text("changed")
    assert "done     copy:one" in project.doit("copy").stdout
    project.doit("forget", "copy:two")
    assert "done     copy:two" in project.doit("copy").stdout
    assert (project.root / "two.out").read_text() == "two"


def test_an_ignored_task_stays_ignored_until_it_is_forgotten(project: Project) -> None:
    project.write("slow", SLOW)
    project.flatpack("lock", "slow")
    project.doit("ignore", "run:slow/slow")
    assert "ignored" in project.doit("run:slow/slow").stdout
    project.doit("forget", "run:slow/slow")
    assert "built    run:slow/slow" in project.doit("run:slow/slow").stdout


def test_ctrl_c_ends_a_build_with_a_sentence_and_keeps_what_was_finished(project: Project) -> None:
    project.write("slow", SLOW)
    build = project.start("doit", "build:slow")
    time.sleep(3)
    build.send_signal(signal.SIGINT)
    said, _ = build.communicate(timeout=30)
    assert build.returncode != 0
    assert "Traceback" not in said
    assert "interrupted" in said
    assert list((project.cache / "tmp").iterdir()) == []
    record = project.record("build:slow")
    assert "run:slow/slow" in [line["action"] for line in record]
    assert "device:slow@laptop" not in [line["action"] for line in record]


def test_two_builds_at_once_share_the_work(project: Project) -> None:
    project.write("slow", SLOW)
    project.flatpack("lock", "slow")
    builds = [project.start("doit", "build:slow") for _ in range(2)]
    said = [build.communicate(timeout=60)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    together = "".join(said)
    assert together.count("built    run:slow/slow") == 1, together
    assert together.count("cached   run:slow/slow") + together.count("up to date") >= 1


def test_doits_json_reporter_works_too(project: Project) -> None:
    project.write("slow", SLOW)
    done = project.doit("run", "-r", "json", "device:slow@laptop")
    assert '"device:slow@laptop"' in done.stdout
    assert list((project.cache / "tmp").iterdir()) == []


def test_status_is_told_by_doit_list(project: Project) -> None:
    project.write("slow", SLOW)
    project.doit("device:slow@laptop")
    listed = project.doit("list", "--all", "--status").stdout
    assert "U device:slow@laptop" in listed
    assert "R run:slow/slow" in listed


def test_a_name_that_is_no_task_is_answered_with_one_that_is(project: Project) -> None:
    project.write("small", GREETING, WORDS)
    for command, words in (
        ("build:small@pi4", ["small is not built for 'pi4'", "its targets: laptop, pi5"]),
        ("buidl:small@pi5", ["there is no task 'buidl:small@pi5'", "did you mean 'build:small@pi5'?"]),
        ("small", ["there is no task 'small'", "doit build:small"]),
        ("run:small/x*", ["no task matches 'run:small/x*'"]),
    ):
        refused = project.doit(command, check=False)
        assert refused.returncode != 0
        for said in words:
            assert said in refused.stderr + refused.stdout
    assert not project.boxes
