"""The pinned requirements fit pyproject.toml, on every system that is supported, and name no place to get them from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SYSTEMS = [("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")]


def pins(name: str) -> Mapping[str, Requirement]:
    lines = re.findall(r"^[A-Za-z0-9].*?(?= \\$)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(pin.name): pin for pin in found}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: "-".join(system[::2]))
def test_each_requirement_is_pinned_to_a_version_that_it_admits(python: str, system: tuple[str, str, str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]
    environment: dict[str, str] = {
        **{key: str(value) for key, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system[0],
        "platform_system": system[1],
        "platform_machine": system[2],
    }
    locked = pins("lock.txt")
    for requirement in needed:
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        pin = locked.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement}: run make lock-requirements"
        (version,) = pin.specifier
        assert version.operator == "=="
        assert requirement.specifier.contains(version.version), f"{requirement}: run make lock-requirements"
        assert pin.marker is None or pin.marker.evaluate(environment)


def test_what_builds_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = pins("build.txt")
    inputs = [line for line in (ROOT / "requirements/build.in").read_text().splitlines() if line[:1].isalpha()]
    for text in (*inputs, *project["build-system"]["requires"]):
        requirement = Requirement(text)
        (version,) = locked[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(version.version), f"{requirement}: run make lock-requirements"


@pytest.mark.parametrize("name", ["lock.txt", "build.txt"])
def test_every_pin_has_hashes_and_none_names_a_host_or_a_folder(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert "://" not in text
    assert "file:" not in text
    assert not re.search(r"^-", text, re.MULTILINE), "an option such as an index stands in it"
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(name))
    assert all("--hash=sha256:" in entry for entry in entries)


def test_what_is_large_stays_out() -> None:
    assert not {"torch", "optimum", "transformers"} & set(pins("lock.txt"))
