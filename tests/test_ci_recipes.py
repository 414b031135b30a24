"""The recipes for CI: valid by the schemas of GitHub and GitLab, their commands exist, and their scripts really build."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest
import yaml

from flatpack_build.box.keys import generate_key
from flatpack_build.cli import cli
from tests.e2e.conftest import Project, make_project

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / "docs/ci/github.yml"
GITLAB = ROOT / "docs/ci/gitlab.yml"

MANIFEST = """\
version = "0.1.0"
targets = ["laptop", "pi5"]

[environment]
model_name = "small"
"""


def loaded(file: Path) -> dict[Any, Any]:
    value = yaml.safe_load(file.read_text())
    assert isinstance(value, dict)
    return value


def github_steps() -> dict[str, dict[str, Any]]:
    """Name -> step, of those that run a script."""
    jobs = loaded(GITHUB)["jobs"].values()
    return {step["name"]: step for job in jobs for step in job["steps"] if "run" in step}


def gitlab_script(job: str, *parts: str) -> str:
    return "\n".join(line for part in parts for line in loaded(GITLAB)[job].get(part, []))


def scripts() -> Iterator[tuple[str, str]]:
    for name, step in github_steps().items():
        yield f"github: {name}", step["run"]
    for job in ("build", "release"):
        yield f"gitlab: {job}", gitlab_script(job, "before_script", "script", "after_script")
    yield "docs/ci.md", "\n".join(re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/ci.md").read_text(), re.M | re.S))


@pytest.mark.parametrize(
    ("file", "schema"), [(GITHUB, "vendor.github-workflows"), (GITLAB, "vendor.gitlab-ci")], ids=["github", "gitlab"]
)
def test_each_recipe_is_valid(file: Path, schema: str, tmp_path: Path) -> None:
    def check(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, os.fspath(path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = check(file)
    assert good.returncode == 0, good.stdout + good.stderr
    spoilt = tmp_path / file.name  # the check can fail
    spoilt.write_text(re.sub(r"^( +)(steps|script):", r"\1\2s:", file.read_text(), flags=re.MULTILINE))
    assert check(spoilt).returncode != 0


def flatpack_commands(script: str) -> Iterator[list[str]]:
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if set(word) <= set("();<>|&"):
                if "flatpack" in command:
                    yield command[command.index("flatpack") + 1 :]
                command = []
            else:
                command.append(word)


def test_every_command_in_them_exists() -> None:
    found = set()
    for _, script in scripts():
        for name, *arguments in flatpack_commands(script):
            command = cli.get_command(click.Context(cli), name)
            if isinstance(command, click.Group):
                name, *arguments = arguments
                command = command.get_command(click.Context(command), name)
            assert command is not None, name
            with command.make_context(name, list(arguments)):  # refuses an option that does not exist
                found.add(name)
    assert found == {"build", "gc", "keygen", "verify"}


@pytest.mark.parametrize(("name", "script"), list(scripts()), ids=[name for name, _ in scripts()])
def test_each_script_is_good_shell(name: str, script: str) -> None:
    assert "${{" not in script, "an expression inside a script is a way to inject code: hand it in as a variable"
    parsed = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr
    if shutil.which("shellcheck"):
        checked = subprocess.run(
            ["shellcheck", "--shell=bash", "--exclude=SC2154", "-"],
            input=script, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout


def test_targets_are_known() -> None:
    known = {path.stem for path in (ROOT / "targets").glob("*.toml")}
    (matrix,) = loaded(GITLAB)["build"]["parallel"]["matrix"]
    assert set(matrix["TARGET"]) == set(loaded(GITHUB)["jobs"]["build"]["strategy"]["matrix"]["target"]) <= known


# --- run for real


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project as it is checked out, with its program installed."""
    root = tmp_path_factory.mktemp("ci")
    project = make_project(root / "project", root / "cache")
    project.write("small", MANIFEST)
    project.flatpack("lock", "small")
    key = generate_key(root / "key.pem", passphrase=b"open sesame", development=False, bits=2048)
    shutil.copy(key.public, project.root / "signing.pub.pem")
    shutil.rmtree(project.root / "keys")
    program = project.root / ".venv/bin/flatpack"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flatpack_build "$@"\n')
    program.chmod(0o755)
    return project


def run(project: Project, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI"))}
    base["PATH"] = f"{project.root}/.venv/bin:{base['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=project.root,
        env={**base, "FLATPACK_CACHE": os.fspath(project.cache), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def cleaned(project: Project) -> Project:
    for name in ("build", "dist", "report"):
        shutil.rmtree(project.root / name, ignore_errors=True)
    return project


@pytest.mark.parametrize("secrets", [True, False], ids=["with secrets", "without secrets"])
def test_the_github_recipe_builds_signs_and_reports(repository: Project, tmp_path: Path, secrets: bool) -> None:
    project, steps = cleaned(repository), github_steps()
    page, variables = tmp_path / "page.md", tmp_path / "env"
    runner = {"RUNNER_TEMP": os.fspath(tmp_path), "GITHUB_ENV": str(variables), "GITHUB_STEP_SUMMARY": str(page)}
    key = (repository.root.parent / "key.pem").read_text() if secrets else ""
    taken = run(project, steps["Take the signing key"]["run"], SIGNING_KEY=key, **runner)
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "signing.pem").stat().st_mode & 0o077 == 0
    runner |= dict(line.split("=", 1) for line in variables.read_text().splitlines())
    runner |= {"FLATPACK_PASSPHRASE": "open sesame"} if secrets else {}
    built = run(project, steps["Build"]["run"], TARGET="pi5", **runner)
    assert built.returncode == 0, built.stdout + built.stderr
    assert sorted(project.boxes) == ["pi5"]
    assert "small-0.1.0-pi5.fpk" in page.read_text()
    ET.parse(project.root / "report/junit.xml")
    assert run(project, steps["Keep the build cache small"]["run"], **runner).returncode == 0
    verified = run(project, steps["Verify what will be published"]["run"], **runner)
    assert (verified.returncode == 0) == secrets, verified.stdout
    run(project, steps["Remove the signing key"]["run"], **runner)
    assert not (tmp_path / "signing.pem").exists()


def test_the_gitlab_recipe_builds_signs_and_reports(repository: Project, tmp_path: Path) -> None:
    project = cleaned(repository)
    key = tmp_path / "SIGNING_KEY"
    key.write_text((repository.root.parent / "key.pem").read_text())
    key.chmod(0o666)  # as the runner leaves it
    environment = {
        name: value
        for name, value in loaded(GITLAB)["build"]["variables"].items()
        if name.startswith("FLATPACK") and "$" not in value
    }
    script = gitlab_script("build", "before_script", "script")
    done = run(
        project, script, TARGET="laptop", SIGNING_KEY=str(key), FLATPACK_PASSPHRASE="open sesame", CI_COMMIT_TAG="v1",
        **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(project.boxes) == ["laptop"]
    assert "small-0.1.0-laptop.fpk" in (project.root / "report/summary.md").read_text()
    ET.parse(project.root / "report/junit.xml")
    assert run(project, gitlab_script("build", "after_script")).returncode == 0
    assert not (project.root / ".signing.pem").exists()


def test_the_recipes_refuse_a_missing_lock(repository: Project, tmp_path: Path) -> None:
    project = cleaned(repository)
    lock = project.root / "warehouse/small/flatpack.lock"
    kept = lock.read_bytes()
    lock.unlink()
    try:
        page = tmp_path / "page.md"
        generate_key(tmp_path / "k.pem", passphrase=None, development=True, bits=2048)
        built = run(
            project, github_steps()["Build"]["run"],
            TARGET="pi5", GITHUB_STEP_SUMMARY=str(page), FLATPACK_SIGNING_KEY=str(tmp_path / "k.pem"),
        )  # fmt: skip
        assert built.returncode != 0
        assert not lock.exists()
        assert "there is no lock" in page.read_text()
        assert "there is no lock" in (project.root / "report/junit.xml").read_text()
    finally:
        lock.write_bytes(kept)


def test_a_target_that_nobody_builds_for_is_refused(repository: Project, tmp_path: Path) -> None:
    generate_key(tmp_path / "k.pem", passphrase=None, development=True, bits=2048)
    built = run(
        cleaned(repository), github_steps()["Build"]["run"],
        TARGET="pi55", GITHUB_STEP_SUMMARY=str(tmp_path / "page.md"), FLATPACK_SIGNING_KEY=str(tmp_path / "k.pem"),
    )  # fmt: skip
    assert built.returncode != 0
    assert "no task matches" in built.stderr
