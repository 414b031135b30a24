from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flatpack_build.manifest.schema import schemas

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
FLATPACKS = sorted([*ROOT.glob("warehouse/**/flatpack.toml"), *DATA.glob("*.toml")])
PROFILES = sorted(ROOT.glob("targets/*.toml"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads(schemas()[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schemas_that_are_checked_in_are_up_to_date() -> None:
    checked_in = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "schemas").glob("*.json")}
    assert checked_in == dict(schemas()), "run: python -m flatpack_build.manifest.schema schemas"


def test_they_are_written_the_same_by_another_process(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "flatpack_build.manifest.schema", str(tmp_path)],
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7", "PATH": "/usr/bin"},
    )
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict(schemas())


@pytest.mark.parametrize("file", FLATPACKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_flatpacks_follow_the_schema(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    text = text.replace("{{model_name}}", "name").replace("{{current_date}}", "2026-01-01")  # the template's
    validator("flatpack.schema.json").validate(tomllib.loads(text))


@pytest.mark.parametrize("file", PROFILES, ids=lambda path: str(path.stem))
def test_profiles_follow_the_schema(file: Path) -> None:
    assert len(PROFILES) >= 6
    validator("target.schema.json").validate(tomllib.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"quants": 1},
        {"model": {}},
        {"model": {"source": "m", "quant": "Q4"}},
        {"model": {"source": "m", "quants": "auto"}},
        {"target": {"pi5": {"version": "1"}}},
        {"target": {"pi5": {"model": {"quant": "Q4"}}}},
        {"docs": {"files": []}},
        {"build": {"x": {"command": "x", "outputs": []}}},
        {"agent": {"port": 70000}},
    ],
)
def test_the_schema_refuses_what_the_program_refuses(change: dict[str, Any]) -> None:
    good = {"version": "1", "environment": {"model_name": "a"}}
    validator("flatpack.schema.json").validate(good)
    with pytest.raises(jsonschema.ValidationError):
        validator("flatpack.schema.json").validate(good | change)


def test_null_appears_nowhere_for_toml_has_none() -> None:
    for text in schemas().values():
        assert "null" not in text
