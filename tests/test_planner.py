"""When a kept plan holds, and when it is made anew: everything that it was made from counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flatpack_build.errors import PlanError
from flatpack_build.host import Host, look_at_host
from flatpack_build.params import DeviceParams, VerifyParams
from flatpack_build.planner import Planner
from flatpack_build.project import Project, find_project
from flatpack_build.stamps import TICK_NS
from tests.e2e.conftest import make_project
from tests.gguf_files import gguf

HEAD = 'version = "0.1.0"\n\n[environment]\nmodel_name = "small"\n'
SIGNED = """
[model]
source = "file:tiny.gguf"
signature = "file:tiny.sig"
public_keys = [".keys/vendor.pub.pem"]
"""
PEM = "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n"


def locked(folder: Path, manifest: str) -> Project:
    """A project with one flatpack and its lock."""
    made = make_project(folder / "project", folder / "cache")
    made.write("small", manifest, {"tiny.gguf": gguf(), "tiny.sig": b"signed"})
    made.flatpack("lock", "small")
    return find_project(made.root)


def settle() -> None:
    """A plan is kept only when what it was made from has been as it is for a while."""
    time.sleep(2 * TICK_NS / 1e9)


def device(project: Project, host: Host) -> DeviceParams:
    params = Planner(project, host=lambda: host).graph("small").actions["device:small@host"].params
    assert isinstance(params, DeviceParams)
    return params


@pytest.mark.parametrize(
    ("change", "field", "now"),
    [
        (lambda host: replace(host, python="3.99"), "python", "3.99"),
        (lambda host: replace(host, accelerator="cuda"), "device", "cuda"),
        (lambda host: replace(host, memory=8 * 10**9), "memory_mb", 6000),
    ],
)
def test_another_machine_or_a_changed_one_gets_another_plan(
    tmp_path: Path, change: Callable[[Host], Host], field: str, now: object
) -> None:
    project = locked(tmp_path, HEAD)
    settle()
    host = look_at_host(tmp_path)
    assert getattr(device(project, host), field) != now
    assert (project.build / "plans/small.json").exists()
    assert getattr(device(project, change(host)), field) == now
    assert getattr(device(project, host), field) != now


def keys(project: Project) -> tuple[str, ...]:
    params = Planner(project).graph("small").actions["verify:small"].params
    assert isinstance(params, VerifyParams)
    return params.public_keys


def write_key(folder: Path, text: bytes) -> None:
    (folder / ".keys").mkdir(exist_ok=True)
    (folder / ".keys/vendor.pub.pem").write_bytes(text)


def test_a_key_that_comes_before_the_one_that_was_read_is_seen(tmp_path: Path) -> None:
    project = locked(tmp_path, HEAD + SIGNED)
    write_key(project.root, PEM.format("project").encode())
    settle()
    assert keys(project) == (PEM.format("project"),)
    assert (project.build / "plans/small.json").exists()
    write_key(project.warehouse / "small", PEM.format("own").encode())
    assert keys(project) == (PEM.format("own"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0\x82\x01\xff", "is no text"),
        (b"-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n", "is a private key"),
    ],
)
def test_what_is_no_public_key_is_named_and_kept_nowhere(tmp_path: Path, text: bytes, message: str) -> None:
    project = locked(tmp_path, HEAD + SIGNED)
    write_key(project.root, text)
    settle()
    with pytest.raises(PlanError, match=message):
        keys(project)
    assert not (project.build / "plans/small.json").exists()
