from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.params import FetchParams, params_from_json
from flatpack_build.steps import fetch


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_a_file(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"weights")
    params = FetchParams("file:model.bin", {"model.bin": hashlib.sha256(b"weights").hexdigest()}, {})
    fetch.run(params, {"file": file}, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"model.bin": b"weights"}


def test_a_changed_file(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"other")
    params = FetchParams("file:model.bin", {"model.bin": hashlib.sha256(b"weights").hexdigest()}, {})
    with pytest.raises(VerificationError, match="not what was locked"):
        fetch.run(params, {"file": file}, out)


def test_parameters_survive_json(out: Path) -> None:
    params = FetchParams("oci:x/y", {"a": "0" * 64}, {"commit": "1" * 40})
    again = params_from_json("fetch", params.to_json())
    assert again == params
    assert isinstance(again, FetchParams)
    with pytest.raises(SourceError, match="not supported yet"):
        fetch.run(again, {}, out)
