"""Every action twice, under other conditions: what is the same passes, what is not is named to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flatpack_build.reproducibility import faketime_library, first_difference
from tests.e2e.conftest import Project, make_project

MANIFEST = """\
version = "0.1.0"
targets = ["laptop"]

[environment]
model_name = "odd"

[build.stamp]
command = '''{command}'''
outputs = ["stamp.txt"]
"""


def odd(project: Project, command: str) -> None:
    project.write("odd", MANIFEST.format(command=command))
    project.flatpack("lock", "odd")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("reproducible")
    return make_project(folder / "project", folder / "cache")


def test_what_is_reproducible_passes_and_disturbs_nothing(project: Project) -> None:
    odd(project, "seq 100 > stamp.txt")
    said = project.flatpack("build", "--verify-reproducible", "odd").stdout
    for action in ("run:odd/stamp", "device:odd@laptop", "assemble:odd@laptop", "pack:odd@laptop"):
        assert re.search(rf"OK +{action} .* run twice", said), said
    assert "odd is reproducible: 4 of 4" in said
    assert not (project.cache / "actions").exists()
    assert list((project.cache / "tmp").iterdir()) == []
    assert not (project.root / "dist").exists()
    assert list(Path("/dev/shm").glob("*faketime*")) == [] or faketime_library() is None


@pytest.mark.parametrize(
    "command",
    [
        "printf 'made at ' > stamp.txt; date +%s.%N >> stamp.txt",
        "printf 'made at ' > stamp.txt; od -An -N8 -tu8 /dev/urandom >> stamp.txt",
        pytest.param(
            "printf 'made at ' > stamp.txt; date +%Y-%m >> stamp.txt",
            marks=pytest.mark.skipif(faketime_library() is None, reason="faketime is not installed"),
        ),
    ],
)
def test_what_is_not_is_named_with_file_and_offset(project: Project, command: str) -> None:
    odd(project, command)
    done = project.flatpack("build", "--verify-reproducible", "odd@laptop", check=False)
    assert done.returncode == 1
    found = re.search(
        r"run:odd/stamp is not reproducible: 'stamp.txt' differs from byte (\d+) on\n"
        r"  first run:  'made at (.*)'\n  second run: 'made at (.*)'\n  hint: .*clock",
        done.stderr,
    )
    assert found, done.stderr
    at = int(found[1]) - len("made at ")
    assert at >= 0
    assert found[2][:at] == found[3][:at]
    assert found[2][at] != found[3][at]
    assert "OK   pack" not in done.stdout


def test_a_file_that_only_one_run_makes_is_named(project: Project) -> None:
    text = MANIFEST.format(command="mkdir out; date > out/$(date +%N).txt").replace("stamp.txt", "out/*")
    project.write("odd", text)
    project.flatpack("lock", "odd")
    done = project.flatpack("build", "--verify-reproducible", "odd", check=False)
    assert re.search(r"run:odd/stamp is not reproducible: only its (first|second) run made 'out/\d+.txt'", done.stderr)


def test_a_step_that_fails_is_named_with_its_place(project: Project) -> None:
    odd(project, "cat absent.txt > stamp.txt")
    done = project.flatpack("build", "--verify-reproducible", "odd", check=False)
    assert done.returncode == 1
    assert re.search(r"warehouse/odd/flatpack\.toml:\d+:\d+: build step 'stamp'", done.stderr), done.stderr


def test_an_unknown_target_is_refused(project: Project) -> None:
    odd(project, "seq 100 > stamp.txt")
    done = project.flatpack("build", "--verify-reproducible", "odd@pi9", check=False)
    assert done.returncode == 2
    assert "odd is not built for 'pi9'" in done.stderr
    assert "laptop" in done.stderr


@pytest.mark.parametrize(
    ("one", "other", "offset"),
    [
        (b"", b"", None),
        (b"abc", b"abc", None),
        (b"abc", b"abd", 2),
        (b"abc", b"abcd", 3),
        (b"", b"x", 0),
        (b"a" * (1 << 20) + b"b", b"a" * (1 << 20) + b"c", 1 << 20),
    ],
)
def test_the_first_difference(tmp_path: Path, one: bytes, other: bytes, offset: int | None) -> None:
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "other").write_bytes(other)
    assert first_difference(tmp_path / "one", tmp_path / "other") == offset


@pytest.mark.model
@pytest.mark.network
@pytest.mark.parametrize("name", ["hello-docs", "smollm2-chat"])
def test_real_flatpacks_are_reproducible(tmp_path: Path, model_cache: Path, name: str) -> None:
    project = make_project(tmp_path / "project", model_cache, name)
    said = project.flatpack("build", "--verify-reproducible", name).stdout
    assert f"{name} is reproducible" in said
    assert "run twice" in said
