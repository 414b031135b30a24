"""Declared build steps as their users meet them: undeclared inputs, memory and cores, time-outs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flatpack_build.digest import Digest
from flatpack_build.store.folders import load_tree
from flatpack_build.store.local import LocalStore
from flatpack_build.tracing import strace_problem
from tests.e2e.conftest import Project

needs_strace = pytest.mark.skipif(bool(strace_problem()), reason=strace_problem())
HEAD = 'version = "0.1.0"\ntargets = ["laptop"]\n\n[environment]\nmodel_name = "steps"\n\n'


def setting(project: Project, *lines: str) -> None:
    with open(project.root / "pyproject.toml", "a") as file:
        file.write("\n".join(lines) + "\n")


def outputs(project: Project, step: str, record: list[dict[str, str]]) -> dict[str, str]:
    """What a step of this build made: path -> text."""
    store = LocalStore(project.cache)
    line = next(line for line in record if line["action"] == f"run:steps/{step}")
    tree = load_tree(store, Digest(line["output"]))
    return {entry.path: store.path(entry.digest).read_text() for entry in tree.entries}


WORDS = """\
[build.words]
command = "sh make.sh"
inputs = ["make.sh"]
outputs = ["words.json"]

[build.page]
command = "cp words.json page.html"
outputs = ["page.html"]
"""


def test_an_undeclared_input_and_the_line_that_mends_it(project: Project) -> None:
    project.write("steps", HEAD + WORDS, {"make.sh": "cat data/words.csv > words.json\n", "data/words.csv": "a,b\n"})
    said = project.doit("--continue", "build:steps", check=False).stdout
    assert (
        "warehouse/steps/flatpack.toml:7:8: build step 'words' looked for data/words.csv, not among its inputs" in said
    )
    assert 'hint: write in [build.words]: inputs = ["make.sh", "data/words.csv"]' in said
    assert 'in [build.page]: inputs = ["words.json"] (then it runs after [build.words])' in said
    file = "warehouse/steps/flatpack.toml"
    project.edit(file, 'inputs = ["make.sh"]', 'inputs = ["make.sh", "data/words.csv"]')
    project.edit(file, 'outputs = ["page.html"]', 'inputs = ["words.json"]\noutputs = ["page.html"]')
    record = project.record("build:steps")
    assert outputs(project, "page", record) == {"page.html": "a,b\n"}


@pytest.mark.parametrize("makers_first", [True, False])
def test_what_a_target_overrides_reaches_the_steps_after_it(project: Project, makers_first: bool) -> None:
    """They take what was made for that target, although they say nothing of targets themselves."""
    gen = """
[build.gen]
command = "echo laptop > gen.txt"
outputs = ["gen.txt"]
"""
    use = """
[build.use]
command = "cp gen.txt used.txt"
inputs = ["gen.txt"]
outputs = ["used.txt"]
"""
    override = '\n[target.pi5]\nbuild.gen.command = "echo pi5 > gen.txt"\n'
    head = HEAD.replace('["laptop"]', '["laptop", "pi5"]')
    project.write("steps", head + (gen + use if makers_first else use + gen) + override)
    record = project.record("build:steps")
    assert outputs(project, "use", record) == {"used.txt": "laptop\n"}
    assert outputs(project, "use@pi5", record) == {"used.txt": "pi5\n"}


@needs_strace
def test_a_step_that_only_looks_is_found_out_by_the_trace(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = '[build.x]\ncommand = "test -f data/x || touch x.txt"\noutputs = ["x.txt"]\n'
    project.write("steps", HEAD + manifest, {"data/x": "x"})
    project.doit("build:steps")
    project.doit("forget", "run:steps/x")
    monkeypatch.setitem(os.environ, "FLATPACK_TRACE", "1")
    said = project.doit("build:steps", check=False).stdout
    assert "looked for data/x, not among its inputs, and went on without" in said
    assert 'inputs = ["data/x"]' in said


LIMITED = "".join(
    f"""\
[build.{name}]
command = "date +%s.%N > {name}.txt; sleep 1; date +%s.%N >> {name}.txt"
outputs = ["{name}.txt"]
memory_mb = 600

"""
    for name in ("one", "two", "three")
)


def spans(project: Project, record: list[dict[str, str]]) -> list[tuple[float, float]]:
    found = []
    for name in ("one", "two", "three"):
        begun, ended = outputs(project, name, record)[f"{name}.txt"].split()
        found.append((float(begun), float(ended)))
    return sorted(found)


@pytest.mark.parametrize(("memory", "together"), [(1000, False), (1300, True), (9000, True)])
def test_steps_that_do_not_fit_into_memory_together_run_one_after_another(
    project: Project, memory: int, together: bool
) -> None:
    setting(project, "jobs = 4", f"memory_mb = {memory}")
    project.write("steps", HEAD + LIMITED)
    record = project.record("build:steps")
    (begun, first), (second, _), (third, ended) = spans(project, record)
    assert (second < first) == together
    assert (third < first) == (memory == 9000)
    if not together:  # waiting is not counted as work
        assert all(float(line["seconds"]) < ended - begun for line in record)


def test_steps_with_many_cores_do_not_run_together(project: Project) -> None:
    setting(project, "jobs = 4")
    project.write("steps", HEAD + LIMITED.replace("memory_mb = 600", "cores = 3"))
    (_, first), (second, end), (third, _) = spans(project, project.record("build:steps"))
    assert first <= second
    assert end <= third


def test_a_step_larger_than_the_machine_runs_alone_and_says_so(project: Project) -> None:
    setting(project, "jobs = 4", "memory_mb = 500")
    project.write("steps", HEAD + LIMITED.replace("memory_mb = 600", "", 2))
    record = project.record("build:steps")
    three = tuple(float(word) for word in outputs(project, "three", record)["three.txt"].split())
    others = [span for span in spans(project, record) if span != three]
    assert all(end <= three[0] or begun >= three[1] for begun, end in others)
    noted = {line["action"]: line["notes"][0] for line in record if any("ran alone" in note for note in line["notes"])}
    assert noted == {"run:steps/three": "it may need 600 MB of memory, and there are 500 MB for builds: it ran alone"}
    project.doit("forget", "run:steps/three")
    assert noted["run:steps/three"] in project.doit("build:steps").stdout


def test_a_limit_is_no_reason_to_build_again(project: Project) -> None:
    """What a step may take says nothing of what it makes: neither the step nor the box is made anew."""
    project.write("steps", HEAD + '[build.x]\ncommand = "echo x > x.txt"\noutputs = ["x.txt"]\n')
    project.doit("build:steps")
    boxes = {path: path.read_bytes() for path in Path(project.root / "dist").iterdir()}
    with open(project.root / "warehouse/steps/flatpack.toml", "a") as file:
        file.write("cores = 2\nmemory_mb = 100\ntimeout_seconds = 60\n")
    assert project.record("build:steps") == []
    assert boxes == {path: path.read_bytes() for path in Path(project.root / "dist").iterdir()}


def test_a_step_that_takes_too_long_is_stopped(project: Project) -> None:
    project.write("steps", HEAD + '[build.x]\ncommand = "sleep 60; touch x"\noutputs = ["x"]\ntimeout_seconds = 1\n')
    said = project.doit("build:steps", check=False).stdout
    assert "flatpack.toml:7:8: build step 'x' took longer than its timeout_seconds = 1 and was stopped" in said
    assert "give it more time in [build.x]" in said


def test_folders_without_end_are_an_error_and_leave_nothing(project: Project) -> None:
    nesting = "i=0; while [ $i -lt 1500 ]; do mkdir a; cd a; i=$((i + 1)); done"
    project.write("steps", HEAD + f'[build.nest]\ncommand = "{nesting}"\noutputs = ["a"]\n')
    said = project.doit("build:steps", check=False).stdout
    assert "its folders are nested more than 200 deep" in said
    assert "hint: let the command nest its folders less deeply" in said
    assert list((project.cache / "tmp").iterdir()) == []
