"""explain, dry run, graph and query on real flatpacks: they say why and what, and leave everything as it was."""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project, make_project
from tests.faults.small import small_model

WORDS = """\
version = "0.1.0"
targets = ["laptop", "pi5"]

[environment]
model_name = "words"

[build.sorted]
command = "sort words.txt > sorted.txt"
inputs = ["words.txt"]
outputs = ["sorted.txt"]

[build.first]
command = "head -n 1 sorted.txt > first.txt"
inputs = ["sorted.txt"]
outputs = ["first.txt"]
"""


def add_words(project: Project) -> None:
    folder = project.root / "warehouse/words"
    folder.mkdir()
    (folder / "flatpack.toml").write_text(WORDS)
    (folder / "words.txt").write_text("cherry\napple\nbanana\n")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with one built flatpack. Tests that change it change it back."""
    top = tmp_path_factory.mktemp("words")
    project = make_project(top / "project", top / "cache")
    add_words(project)
    project.doit("build:words")
    yield project


def everything(*folders: Path) -> dict[str, tuple[int, int, int, int]]:
    """Path -> inode, times and size of all files and folders."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")] if folder.exists() else []:
            status = path.lstat()
            found[os.fspath(path)] = status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
    return found


def look(project: Project) -> None:
    """Every command that only looks."""
    project.doit("plan")
    project.flatpack("build", "--dry-run")
    project.flatpack("query", "uses", "warehouse")
    if (project.root / "warehouse/words/flatpack.lock").exists():
        project.flatpack("explain", "words")
        project.doit("explain", "pack:words@pi5", "--json")
        project.flatpack("graph", "words")
        project.flatpack("query", "needs", "words@pi5")


def plan(project: Project, *names: str) -> dict[str, str]:
    """Action -> state."""
    value = json.loads(project.flatpack("build", "--dry-run", "--json", *names).stdout)
    return {action["action"]: action["state"] for action in value["actions"]}


def explained(project: Project, *names: str) -> dict[str, Any]:
    """Action -> its explanation."""
    return {item["action"]: item for item in json.loads(project.flatpack("explain", "--json", *names).stdout)}


def test_looking_writes_nothing_not_even_a_lock(project: Project) -> None:
    add_words(project)
    before = everything(project.root)
    said = project.doit("plan").stdout
    assert "words has no flatpack.lock yet" in said
    refused = project.flatpack("explain", "words", check=False)
    assert refused.returncode == 1
    assert "flatpack lock words" in refused.stderr
    look(project)
    assert everything(project.root) == before
    assert not project.cache.exists()
    project.flatpack("lock", "words")
    before = everything(project.root, project.cache)
    assert "7 would run, 1 from the cache" in project.doit("plan").stdout
    look(project)
    assert everything(project.root, project.cache) == before
    project.doit("build:words")
    with open(project.root / "warehouse/words/words.txt", "a") as file:
        file.write("date\n")
    before = everything(project.root, project.cache)
    look(project)
    assert everything(project.root, project.cache) == before


def test_nothing_changed_and_a_touch_changes_nothing(built: Project) -> None:
    os.utime(built.root / "warehouse/words/words.txt")
    assert "nothing has changed" in built.flatpack("explain", "words").stdout
    assert "nothing has changed" in built.doit("explain", "run:words/sorted").stdout
    said = built.doit("plan", "build:words@pi5").stdout
    assert "5 up to date; nothing was run or written" in said


def test_an_edit_is_followed_to_its_cause_and_the_plan_is_what_then_runs(built: Project) -> None:
    words = built.root / "warehouse/words/words.txt"
    old = words.read_text()
    words.write_text(old + "aardvark\n")
    said = built.doit("explain", "pack:words@pi5").stdout
    assert "+aardvark" in said
    assert "changed  warehouse/words/words.txt" in said
    assert said.index("pack:words@pi5") < said.index("assemble:words@pi5") < said.index("run:words/sorted")
    assert explained(built, "run:words/first")["run:words/first"]["state"] == "may run"
    planned = plan(built, "words")
    ran = built.built("-n", "1", "build:words")  # which of two equal actions runs is chance where both may start
    assert {name for name in planned if planned[name] == "would run"} <= set(ran)
    assert {name for name in planned if planned[name] in ("up to date", "cached")}.isdisjoint(ran)
    assert planned["assemble:words@pi5"] == "cached"  # it is the same as that of the laptop
    words.write_text(old)
    back = plan(built, "words")
    assert back["pack:words@pi5"] == "cached"  # its box is that of the edit
    assert "would run" not in back.values()
    record = built.record("build:words")
    assert {line["state"] for line in record} == {"cached"}


def test_a_step_that_is_edited_in_the_manifest_is_named_with_both_commands(built: Project) -> None:
    manifest = built.root / "warehouse/words/flatpack.toml"
    built.edit("warehouse/words/flatpack.toml", "head -n 1", "tail -n 1")
    (change,) = explained(built, "run:words/first")["run:words/first"]["changes"]
    assert change["part"] == "parameter command"
    assert (change["before"], change["after"]) == (
        "head -n 1 sorted.txt > first.txt",
        "tail -n 1 sorted.txt > first.txt",
    )
    manifest.write_text(WORDS)


def test_a_box_that_is_gone_and_a_forgotten_task_are_told(built: Project) -> None:
    box = built.root / "dist/words-0.1.0-pi5.fpk"
    box.unlink()
    said = built.flatpack("explain", "words").stdout
    assert "dist/words-0.1.0-pi5.fpk is not there" in said
    assert plan(built, "words@pi5")["pack:words@pi5"] == "cached"
    built.doit("forget", "device:words@pi5")
    assert "doit forget" in built.flatpack("explain", "words@pi5").stdout
    assert plan(built, "words")["device:words@pi5"] == "would run"
    built.doit("build:words")
    assert set(plan(built, "words").values()) == {"up to date"}


def test_a_dry_run_estimates_from_past_runs(built: Project) -> None:
    words = built.root / "warehouse/words/words.txt"
    old = words.read_text()
    words.write_text(old + "egg\n")
    value = json.loads(built.doit("plan", "--json").stdout)
    would = [action for action in value["actions"] if action["state"] == "would run"]
    assert would
    assert all(action["seconds"] > 0 and action["size"] > 0 for action in would)
    assert value["total"]["unknown"] == 0
    assert "judged by past runs" in built.doit("plan").stdout
    words.write_text(old)


def test_the_graph_in_every_format(built: Project, tmp_path: Path) -> None:
    text = built.flatpack("graph", "words").stdout
    assert "run:words/first" in text
    assert "<- run:words/sorted" in text
    first = built.flatpack("graph", "words", "--format", "svg").stdout
    built.flatpack("graph", "words", "-o", str(tmp_path / "graph.svg"))
    assert (tmp_path / "graph.svg").read_text() == first
    ET.fromstring(first)
    assert '"run:words/sorted" -> "run:words/first"' in built.flatpack("graph", "--format", "dot").stdout
    (drawn,) = json.loads(built.flatpack("graph", "--format", "json").stdout)
    assert {action["state"] for action in drawn["actions"]} == {"up to date"}


def test_what_uses_a_file_and_what_a_box_needs(built: Project) -> None:
    (use,) = json.loads(built.flatpack("query", "uses", "--json", "warehouse/words/words.txt").stdout)["uses"]
    assert "run:words/sorted" in use["direct"]
    assert "run:words/first" in use["indirect"]
    assert sorted(use["boxes"]) == ["words-0.1.0-laptop.fpk", "words-0.1.0-pi5.fpk"]
    assert "nothing in the warehouse depends on" in built.flatpack("query", "uses", "keys").stdout
    decided = built.flatpack("query", "uses", "warehouse/words/flatpack.toml").stdout
    assert "says what its actions are" in decided
    needs = json.loads(built.flatpack("query", "needs", "--json", "dist/words-0.1.0-pi5.fpk").stdout)
    assert [file["path"] for file in needs["files"]] == ["warehouse/words/words.txt"]
    assert "zstandard" in needs["tools"]
    assert any(path.endswith("pi5.toml") for path in needs["decided_by"])
    assert not any(path.endswith("laptop.toml") for path in needs["decided_by"])


def test_a_pattern_a_path_and_nothing_at_all_are_names_too(built: Project) -> None:
    words = built.root / "warehouse/words/words.txt"
    old = words.read_text()
    words.write_text(old + "fig\n")
    whole = explained(built, "words")
    assert whole["assemble:words@pi5"]["state"] == "cached"  # as in the plan: it is the same as that of the laptop
    for name in ("*", "warehouse/words", "warehouse/words/", "warehouse/words/flatpack.toml"):
        assert explained(built, name) == whole, name
    assert explained(built) == whole
    assert explained(built, "dist/words-0.1.0-pi5.fpk") == explained(built, "build:words@pi5")
    assert list(explained(built, "device:*")) == ["device:words@laptop", "device:words@pi5"]
    assert plan(built, "warehouse/words") == plan(built, "words")
    assert built.flatpack("build", "warehouse/words").stdout.count("dist/words-0.1.0-") == 2
    words.write_text(old)
    built.doit("build:words")


def test_a_first_build_is_explained_in_a_few_lines(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", tmp_path / "cache")
    assert "there are no flatpacks" in project.flatpack("explain").stdout
    add_words(project)
    assert "words has no flatpack.lock yet" in project.flatpack("explain").stdout
    project.flatpack("lock", "words")
    said = project.flatpack("explain", "words").stdout
    assert said.count("it has not been built here yet") == 1
    assert "fetch:" not in said
    assert "run:words/sorted       would run" in said


def test_a_file_with_another_name_was_renamed(built: Project) -> None:
    folder = built.root / "warehouse/words"
    (folder / "more.txt").write_text("grape\n")
    built.doit("build:words")
    (folder / "more.txt").rename(folder / "other.txt")
    said = built.flatpack("explain", "words").stdout
    assert "renamed  warehouse/words/more.txt -> warehouse/words/other.txt" in said
    (change,) = explained(built, "assemble:words@pi5")["assemble:words@pi5"]["changes"]
    (file,) = change["files"]
    assert (file["renamed_from"], file["path"]) == ("warehouse/words/more.txt", "warehouse/words/other.txt")
    (folder / "other.txt").unlink()
    built.doit("build:words")


def test_what_a_build_does_not_look_at_is_up_to_date_whatever_the_cache_has_lost(built: Project) -> None:
    assert "up to date" in built.doit("build:words").stdout
    actions = built.cache / "actions"
    actions.rename(built.cache / "away")
    try:
        assert set(plan(built, "words").values()) == {"up to date"}
        assert "nothing has changed" in built.flatpack("explain", "words").stdout
        assert "would run" not in built.flatpack("graph", "words").stdout
        assert "no longer has" in built.doit("explain", "device:words@pi5").stdout
        assert plan(built, "device:words@pi5") == {"device:words@pi5": "would run"}
        assert not actions.exists()
        assert "8 up to date in" in built.doit("build:words").stdout
    finally:
        shutil.rmtree(actions, ignore_errors=True)
        (built.cache / "away").rename(actions)


def test_a_file_that_is_not_what_was_locked_is_known_before_anything_runs(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", tmp_path / "cache")
    add_words(project)
    folder = project.root / "warehouse/words"
    (folder / "mine.gguf").write_bytes(small_model())
    (folder / "flatpack.toml").write_text(WORDS + '\n[model]\nsource = "file:mine.gguf"\nquant = "keep"\n')
    project.doit("build:words")
    (folder / "mine.gguf").write_bytes(small_model(2))
    done = project.doit("plan", check=False)
    assert done.returncode == 1
    for said in (
        done.stdout,
        project.flatpack("explain", "words").stdout,
        project.doit("build:words", check=False).stdout,
    ):
        assert "warehouse/words/mine.gguf is not what was locked" in said
        assert "run: flatpack lock words" in said
    project.flatpack("lock", "words")
    project.doit("build:words")


def test_a_graph_of_a_box_has_only_what_it_needs(built: Project) -> None:
    (drawn,) = json.loads(built.flatpack("graph", "words@pi5", "--format", "json").stdout)
    assert {action["action"].partition("@")[2] for action in drawn["actions"]} == {"", "pi5"}
    (drawn,) = json.loads(built.flatpack("graph", "run:words/first", "--format", "json").stdout)
    assert [action["action"] for action in drawn["actions"]] == ["run:words/sorted", "run:words/first"]
    built.flatpack("graph", "words", "-o", "graph.gv")
    assert (built.root / "graph.gv").read_text().startswith("digraph")
    refused = built.flatpack("graph", "words", "-o", "graph.png", check=False)
    assert refused.returncode == 2
    assert "not written as .png" in refused.stderr
    assert not (built.root / "graph.png").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("explain", "warehouse/words/words.txt"), "flatpack query uses warehouse/words/words.txt"),
        (("build", "warehouse/words/words.txt"), "flatpack query uses warehouse/words/words.txt"),
        (("query", "warehouse/words/words.txt"), "flatpack query uses warehouse/words/words.txt"),
        (("query", "words@pi5"), "flatpack query needs words@pi5"),
        (("plan",), "flatpack build --dry-run"),
        (("cache", "clean"), "flatpack cache gc"),
        (("cache", "stat"), "did you mean 'stats'"),
        (("build", "--dry-run", "--summary", "x.md"), "--summary goes with a build"),
        (("build", "--dry-run", "--verify-reproducible"), "does not go with"),
        (("explain", "pack:words@pi6"), "did you mean 'pack:words@pi5'"),
        (("explain", "wrds"), "words"),
        (("query", "uses", "nowhere.txt"), "there is no file"),
        (("query", "needs", "dist/other.fpk"), "no flatpack of this warehouse makes a box"),
        (("build", "--json"), "--dry-run"),
    ],
)
def test_a_wrong_name_gets_an_answer(built: Project, command: tuple[str, ...], said: str) -> None:
    done = built.flatpack(*command, check=False)
    assert done.returncode not in (0, 3)
    assert said in done.stderr


def test_doit_says_it_too(built: Project) -> None:
    done = built.doit("explain", "pack:words@pi6", check=False)
    assert done.returncode == 3
    assert "did you mean 'pack:words@pi5'" in done.stderr
    assert "there is no option '--jsn'" in built.doit("explain", "words", "--jsn", check=False).stderr
    assert "explain" in built.doit("help").stdout


@pytest.mark.network
def test_an_edited_document_is_shown_under_the_index(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", tmp_path / "cache", "hello-docs")
    project.doit("build:hello-docs")
    project.edit("warehouse/hello-docs/README.md", "Sensor box 4", "Sensor box 5")
    said = project.flatpack("explain", "hello-docs").stdout
    index = said[said.index("index:hello-docs") :]
    assert "input docs" in index
    assert "-# Sensor box 4" in index
    assert "+# Sensor box 5" in index
    planned = plan(project)
    assert {name for name, state in planned.items() if state == "would run"} == {
        "index:hello-docs", "pack:hello-docs@laptop", "pack:hello-docs@pi5",
    }  # fmt: skip
    assert sorted(project.built()) == sorted(name for name, state in planned.items() if state == "would run")


@pytest.mark.model
@pytest.mark.network
def test_another_quantisation_is_named_old_and_new(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", tmp_path / "cache", "smollm2-chat")
    project.doit("compress:smollm2-chat@pi5")
    project.edit("warehouse/smollm2-chat/flatpack.toml", '"Q4_0"', '"Q6_K"')
    said = project.doit("explain", "compress:smollm2-chat@pi5").stdout
    assert "parameter quant: Q4_0 -> Q6_K" in said
    assert "smollm2-chat  " not in said  # nothing above it has changed
    value = json.loads(project.doit("plan", "compress:smollm2-chat@pi5", "--json").stdout)
    (compress,) = [action for action in value["actions"] if action["state"] == "would run"]
    assert compress["action"] == "compress:smollm2-chat@pi5"
    assert compress["size"] > 50_000_000  # like the last one
