"""Ten builds at once, of the same flatpack and of different ones, with one cache: each action runs once for all."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Undisturbed
from tests.faults.ground import Ground, finish, make_ground

_BUILDS = 10


def projects(ground: Ground, names: list[str]) -> list[Ground]:
    """More projects like the first, with its cache: each has a record of its own."""
    made = []
    for number, name in enumerate(names):
        folder = ground.root / f"project-{number}"
        shutil.copytree(ground.project, folder)
        made.append(Ground(ground.root, project=folder))
        assert (folder / "warehouse" / name).is_dir()
    return made


def build_all(grounds: list[Ground], names: list[str]) -> None:
    builds = [each.start("build", name) for each, name in zip(grounds, names, strict=True)]
    results = [finish(build) for build in builds]
    assert [status for status, _ in results] == [0] * len(builds), [said for status, said in results if status]


def ran(grounds: list[Ground]) -> Counter[tuple[str, str]]:
    """How often each key was built, over the records of all."""
    lines = (line for each in grounds for line in each.record())
    return Counter((str(line["step"]), str(line["key"])) for line in lines if line["state"] == "built")


def test_ten_builds_of_one_flatpack_share_all_work(ground: Ground, undisturbed: Undisturbed) -> None:
    names = ["small"] * _BUILDS
    many = projects(ground, names)
    build_all(many, names)
    assert set(ran(many).values()) == {1}
    assert {step for step, _ in ran(many)} == {
        "fetch",
        "verify",
        "compress",
        "device",
        "index",
        "run",
        "assemble",
        "pack",
    }
    for each in many:
        assert each.payloads() == undisturbed.payloads
    ground.assert_clean()


def test_ten_builds_in_one_folder_end_well(ground: Ground, undisturbed: Undisturbed) -> None:
    builds = [ground.start("build", "small") for _ in range(_BUILDS)]
    results = [finish(build) for build in builds]
    assert [status for status, _ in results] == [0] * _BUILDS, results
    said = [line.split()[1] for _, text in results for line in text.splitlines() if line.startswith("  built ")]
    twice = {name: count for name, count in Counter(said).items() if count > 1}
    assert twice == {}
    assert ground.payloads() == undisturbed.payloads
    ground.assert_clean()


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """Three flatpacks, two of which have the same model."""
    return make_ground(tmp_path_factory.mktemp("varied") / "ground", "one", "two", "three")


def test_ten_builds_of_different_flatpacks_share_what_is_common(varied: Ground, tmp_path: Path) -> None:
    model = varied.project / "warehouse/two/model/small.gguf"
    shutil.copy(varied.project / "warehouse/one/model/small.gguf", model)
    shutil.copy(varied.project / "warehouse/one/flatpack.lock", varied.project / "warehouse/two/flatpack.lock")
    alone = varied.copy(tmp_path / "alone")
    alone.good_build("one", "two", "three")
    names = [["one", "two", "three"][number % 3] for number in range(_BUILDS)]
    many = projects(varied, names)
    build_all(many, names)
    counted = ran(many)
    assert set(counted.values()) == {1}
    assert Counter(step for step, _ in counted)["compress"] == 4  # two models, two quantisations each
    for each, name in zip(many, names, strict=True):
        wanted = {box: digest for box, digest in alone.payloads().items() if box.startswith(f"{name}-")}
        assert each.payloads() == wanted
    varied.assert_clean()
