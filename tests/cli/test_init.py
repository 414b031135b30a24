"""``flatpack init`` and ``flatpack create``, on real folders."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flatpack_build.cli.init import create, flatpack_files, init
from flatpack_build.errors import UsageError
from flatpack_build.manifest.load import load_manifest
from flatpack_build.project import Settings, find_project, read_settings
from flatpack_build.resources import builtin_folder


def run(command: object, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)  # type: ignore[arg-type]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "garden"
    assert run(init, str(root)).exit_code == 0
    monkeypatch.chdir(root)
    return root


def test_a_new_project_has_one_valid_flatpack_named_after_its_folder(project: Path) -> None:
    found = find_project(project / "warehouse")
    assert found.root == project
    assert found.flatpacks() == ["garden"]
    manifest = load_manifest(found.flatpack_folder("garden") / "flatpack.toml")
    assert manifest.environment.model_name == "garden"


def test_init_says_what_to_do_next(tmp_path: Path) -> None:
    result = run(init, str(tmp_path / "new"), "--name", "chat")
    assert f"cd {tmp_path / 'new'}\n" in result.output
    assert "doit build:chat\n" in result.output
    assert (tmp_path / "new/warehouse/chat/flatpack.toml").is_file()


def test_init_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my garden!").mkdir()
    monkeypatch.chdir(tmp_path / "my garden!")
    result = run(init)
    assert result.exit_code == 0
    assert "cd " not in result.output
    assert find_project(Path.cwd()).flatpacks() == ["my-garden"]


def test_no_placeholder_is_left_and_scripts_stay_executable(project: Path) -> None:
    flatpack = project / "warehouse/garden"
    for path, data in everything(flatpack).items():
        assert b"{{model_name}}" not in data, path
        assert b"{{current_date}}" not in data, path
    template = builtin_folder("template")
    executable = {path for path in everything(template) if os.access(template / path, os.X_OK)}
    assert {path for path in everything(flatpack) if os.access(flatpack / path, os.X_OK)} == executable


def test_the_schema_line_leads_to_the_schema(project: Path) -> None:
    schema = (builtin_folder("schemas") / "flatpack.schema.json").read_bytes()
    for name in ("garden", "second"):
        if name == "second":
            assert run(create, name).exit_code == 0
        manifest = project / "warehouse" / name / "flatpack.toml"
        line = re.search(r"^#:schema (.+)$", manifest.read_text(), re.MULTILINE)
        assert line is not None
        assert (manifest.parent / line[1]).read_bytes() == schema


def test_the_settings_shown_as_comments_are_all_there_is_and_valid(project: Path) -> None:
    file = project / "pyproject.toml"
    text = file.read_text()
    shown = re.findall(r"^# (\w+) = ", text, re.MULTILINE)
    assert shown == [field.name for field in fields(Settings)]
    file.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    settings = read_settings(file)
    assert settings is not None
    assert settings.jobs == Settings().jobs
    assert settings.warehouse == Settings().warehouse
    assert tomllib.loads(text)["tool"]["doit"]["loader"] == "flatpack"


def test_private_keys_and_outputs_are_ignored_by_git(project: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    subprocess.run(["git", "init", "-q"], check=True)
    paths = ["keys/development.pem", "build/x", "dist/x.fpk", ".doit.db", "warehouse/garden/flatpack.toml"]
    ignored = subprocess.run(["git", "check-ignore", *paths], capture_output=True, text=True, check=True).stdout.split()
    assert ignored == paths[:-1]


def test_dodo_is_valid_python(project: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", str(project / "dodo.py")], check=True)


@pytest.mark.parametrize("taken", ["dodo.py", "warehouse/garden/flatpack.toml"])
def test_init_overwrites_nothing_and_then_writes_nothing(tmp_path: Path, taken: str) -> None:
    file = tmp_path / "garden" / taken
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    result = run(init, str(tmp_path / "garden"))
    assert result.exit_code != 0
    assert isinstance(result.exception, UsageError)
    assert taken in str(result.exception)
    assert everything(tmp_path) == {f"garden/{taken}": b"mine"}


def test_a_second_init_lists_every_file(project: Path) -> None:
    before = everything(project)
    result = run(init, str(project))
    assert isinstance(result.exception, UsageError)
    for path in before:
        assert f"\n  {path}" in str(result.exception)
    assert everything(project) == before


def test_init_below_a_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(init, str(tmp_path / "file" / "project"))
    assert isinstance(result.exception, UsageError)
    assert "cannot be written" in str(result.exception)


def test_what_was_written_before_a_failure_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "garden").mkdir()
    (tmp_path / "garden/warehouse").write_text("a file where a folder must go")
    result = run(init, str(tmp_path / "garden"))
    assert isinstance(result.exception, UsageError)
    assert everything(tmp_path) == {"garden/warehouse": b"a file where a folder must go"}


@pytest.mark.parametrize("name", ["two words", "a/b", "", "template", "legacy", ".."])
def test_names_that_cannot_be(project: Path, name: str) -> None:
    before = everything(project)
    for result in (run(create, name), run(init, str(project / "x"), "--name", name)):
        assert isinstance(result.exception, UsageError)
    assert everything(project) == before


def test_create_adds_a_flatpack_beside_the_others(project: Path) -> None:
    result = run(create, "second")
    assert result.exit_code == 0
    assert "doit build:second" in result.output
    found = find_project(project)
    assert found.flatpacks() == ["garden", "second"]
    assert load_manifest(found.flatpack_folder("second") / "flatpack.toml").environment.model_name == "second"


def test_create_leaves_a_flatpack_of_that_name_alone(project: Path) -> None:
    before = everything(project)
    result = run(create, "garden")
    assert isinstance(result.exception, UsageError)
    assert "exists already" in str(result.exception)
    assert everything(project) == before


def test_create_prefers_the_projects_own_template(project: Path) -> None:
    own = project / "warehouse/template"
    own.mkdir()
    (own / "flatpack.toml").write_text('version = "0.1.0"\n[environment]\nmodel_name = "{{model_name}}"\n')
    (own / "ours.txt").write_text("made {{current_date}}")
    assert run(create, "third").exit_code == 0
    assert re.fullmatch(r"made \d{4}-\d\d-\d\d", (project / "warehouse/third/ours.txt").read_text())


def test_create_with_a_warehouse_elsewhere_finds_the_schema(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.flatpack-build]\nwarehouse = "a/b/flatpacks"\n')
    shutil.rmtree(project / "schemas")
    assert run(create, "deep").exit_code == 0
    text = (project / "a/b/flatpacks/deep/flatpack.toml").read_text()
    assert "#:schema ../../../../schemas/flatpack.schema.json\n" in text
    assert (project / "schemas/flatpack.schema.json").is_file()


def test_create_outside_a_project_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(create, "chat")
    assert isinstance(result.exception, UsageError)
    assert "flatpack init" in str(result.exception)


def test_binary_files_of_a_template_stay_as_they_are(tmp_path: Path) -> None:
    picture = b"\x89PNG\0{{model_name}}"
    (tmp_path / "icon.png").write_bytes(picture)
    files = flatpack_files(tmp_path, "chat", datetime.date(2030, 1, 2), schema="x")
    assert files["icon.png"].data == picture
