from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from flatpack_build.errors import ManifestError, Place, UsageError
from flatpack_build.limits import Limits
from flatpack_build.machine import Capacity
from flatpack_build.project import Project, Settings, find_project, find_project_or_user, read_settings

ROOT = Path(__file__).parents[1]


def project_in(root: Path, settings: str = "", *flatpacks: str) -> Project:
    (root / "pyproject.toml").write_text(f"[tool.flatpack-build]\n{settings}")
    for name in flatpacks:
        (root / "warehouse" / name).mkdir(parents=True)
        (root / "warehouse" / name / "flatpack.toml").write_text("")
    return find_project(root, {})


def test_the_defaults(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    assert project.root == tmp_path
    assert project.warehouse == tmp_path / "warehouse"
    assert project.targets == tmp_path / "targets"
    assert project.build == tmp_path / "build"
    assert project.dist == tmp_path / "dist"
    assert project.signing_key == tmp_path / "keys/development.pem"
    assert project.public_key == tmp_path / "keys/development.pub.pem"
    assert project.trusted_keys == ()
    assert project.jobs >= 1
    assert project.cache.is_absolute()
    assert project.cache.name == "flatpack-build"


def test_the_settings(tmp_path: Path) -> None:
    project = project_in(
        tmp_path,
        'warehouse = "packs/../w"\nbuild = "/tmp/build"\ncache = "~/c"\nsigning_key = "k/release"\n'
        'trusted_keys = ["a.pem", "/b.pem"]\njobs = 3\nmemory_mb = 2000\n',
    )
    assert project.warehouse == tmp_path / "w"
    assert project.build == Path("/tmp/build")
    assert project.cache == Path.home() / "c"
    assert project.public_key == tmp_path / "k/release.pub.pem"
    assert project.trusted_keys == (tmp_path / "a.pem", Path("/b.pem"))
    assert project.jobs == 3
    assert project.capacity == Capacity(3, 2_000_000_000)
    assert pickle.loads(pickle.dumps(project)) == project


def test_the_limits_of_the_cache(tmp_path: Path) -> None:
    assert project_in(tmp_path, "").cache_limits == Limits()
    (tmp_path / "other").mkdir()
    project = project_in(tmp_path / "other", 'cache_max_size = "20GB"\ncache_max_age = "30d"\n')
    assert project.cache_limits == Limits(20 * 10**9, 30 * 86400)


def test_outside_of_a_project_there_is_the_cache_of_the_user(tmp_path: Path) -> None:
    assert find_project_or_user(tmp_path, {"FLATPACK_CACHE": "/cache"}).cache == Path("/cache")
    assert find_project_or_user(tmp_path, {}).cache.name == "flatpack-build"
    project_in(tmp_path, 'cache = "c"\n')
    assert find_project_or_user(tmp_path, {}).cache == tmp_path / "c"


def test_the_environment_wins(tmp_path: Path) -> None:
    project_in(tmp_path, 'cache = "c"\nsigning_key = "k.pem"\n')
    project = find_project(tmp_path, {"FLATPACK_CACHE": "/cache", "FLATPACK_SIGNING_KEY": "/keys/ci.pem"})
    assert project.cache == Path("/cache")
    assert project.public_key == Path("/keys/ci.pub.pem")
    assert find_project(tmp_path, {"FLATPACK_CACHE": ""}).cache == tmp_path / "c"


def test_it_is_found_from_below(tmp_path: Path) -> None:
    project_in(tmp_path, "jobs = 2", "chat")
    inside = tmp_path / "warehouse" / "chat" / "manual"
    inside.mkdir()
    assert find_project(inside, {}).root == tmp_path
    assert find_project(inside / "not-made-yet", {}).jobs == 2


def test_a_warehouse_alone_makes_a_project(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    project = find_project(tmp_path / "warehouse", {})
    assert (project.root, project.settings) == (tmp_path, Settings())


def test_no_project_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not inside a flatpack project") as caught:
        find_project(tmp_path, {})
    assert "flatpack init" in caught.value.hint


def test_a_relative_start_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project_in(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find_project(Path(), {}).root == Path(os.getcwd())


def test_a_broken_file_of_somebody_else_further_up_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\nname = broken")
    (tmp_path / "own").mkdir()
    project_in(tmp_path / "own")
    assert find_project(tmp_path / "own", {}).root == tmp_path / "own"
    with pytest.raises(UsageError):
        find_project(tmp_path, {})


def test_a_dependency_on_flatpack_build_is_no_settings_table(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nname = "flatpack-build"\ndependencies = ["flatpack-build[onnx]>=0.1"]\n')
    assert read_settings(file) is None


@pytest.mark.parametrize("text", ["[tool.flatpack-build]", "[tool . 'flatpack-build' ]", "tool.flatpack-build.jobs = 1",
                                  "[tool]\nflatpack-build = {jobs = 1}"])  # fmt: skip
def test_every_spelling_of_the_table_is_seen(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(text)
    assert isinstance(read_settings(file), Settings)


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("warehous = 'w'", 1, "unknown key 'warehous' in [tool.flatpack-build]; did you mean 'warehouse'?"),
        ("jobs = 'four'", 8, 'expected a whole number, 0 or more, got the text "four"; for example: jobs = 4'),
        ("jobs = -1", 8, "expected a whole number, 0 or more, got the whole number -1"),
        ("jobs = true", 8, "expected a whole number"),
        ("build = ''", 9, "expected a text that is not empty"),
        ("trusted_keys = 'a.pem'", 16, 'expected a list of texts, got the text "a.pem"; for example: trusted_keys = ['),
        ("trusted_keys = [1]", 16, "expected a list of texts"),
        ("cache = 1", 9, "expected a text, got the whole number 1"),
        ("cache = 'c", 11, "not valid TOML"),
        (
            "cache_max_size = '20'",
            18,
            'expected a size such as 500MB, 20GB or 1.5TB, got the text "20"; for example: cache_max',
        ),
        ("cache_max_size = 20", 18, "expected a text, got the whole number 20"),
        ("cache_max_age = '1 month'", 17, "expected an age such as 12h, 30d or 8w"),
    ],
)
def test_settings_that_are_not_valid(tmp_path: Path, line: str, column: int, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        project_in(tmp_path, f"{line}\n")
    assert caught.value.place == Place(str(tmp_path / "pyproject.toml"), 2, column)
    assert message in caught.value.message


def test_a_table_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("tool.flatpack-build = 3")
    with pytest.raises(ManifestError, match="expected a table, got the whole number 3"):
        read_settings(file)


def test_flatpacks_are_listed_in_order_without_being_read(tmp_path: Path) -> None:
    project = project_in(tmp_path, "", "b", "a", "template", "legacy", ".hidden")
    (tmp_path / "warehouse" / "no-manifest").mkdir()
    (tmp_path / "warehouse" / "a-file").write_text("")
    (tmp_path / "warehouse" / "a" / "flatpack.toml").write_text("not toml")
    assert project.flatpacks() == ["a", "b"]


def test_a_warehouse_that_is_not_there(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        project.flatpacks()


def test_a_flatpack_by_name(tmp_path: Path) -> None:
    project = project_in(tmp_path, "", "chat", "template")
    (tmp_path / "warehouse" / "empty").mkdir()
    assert project.flatpack_folder("chat") == tmp_path / "warehouse" / "chat"
    with pytest.raises(UsageError, match=r"no flatpack 'chatt'.*; did you mean 'chat'"):
        project.flatpack_folder("chatt")
    with pytest.raises(UsageError, match=r"has no flatpack\.toml"):
        project.flatpack_folder("empty")
    with pytest.raises(UsageError, match="'template' is no flatpack"):
        project.flatpack_folder("template")
    (tmp_path / "warehouse" / "two words").mkdir()
    (tmp_path / "warehouse" / "two words" / "flatpack.toml").touch()
    with pytest.raises(UsageError, match="two words cannot be a flatpack: its name has more in it than letters"):
        project.flatpack_folder("two words")


@pytest.mark.parametrize("name", ["../warehouse/chat", "", ".", "chat/", "/", "a\0b"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="there is no flatpack"):
        project_in(tmp_path, "", "chat").flatpack_folder(name)


def test_it_is_light(tmp_path: Path) -> None:
    project_in(tmp_path, "cache = 'c'", "chat")
    program = (
        "import sys; from pathlib import Path; from flatpack_build.project import find_project;"
        f"project = find_project(Path({str(tmp_path)!r})); project.cache, project.flatpacks();"
        "print([name for name in ('pydantic', 'platformdirs', 'tomlkit', 'psutil', 'difflib') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"
