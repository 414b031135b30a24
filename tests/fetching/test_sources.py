from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from flatpack_build.errors import SourceError, VerificationError
from flatpack_build.fetching.sources import fetch_source, resolve_source
from flatpack_build.manifest.lock import Lock, read_lock, write_lock
from flatpack_build.params import FetchParams
from tests.fetching.server import Site
from tests.gguf_files import gguf


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_of_the_users(tmp_path: Path, out: Path) -> None:
    (tmp_path / "weights").mkdir()
    model = tmp_path / "weights" / "model.gguf"
    model.write_bytes(gguf())
    for text in ("weights/model.gguf", "file:weights/model.gguf", f"file://{model}", f"file:{model}"):
        resolved = resolve_source(text, base=tmp_path, work=tmp_path / f"work-{len(text)}")
        assert resolved.locked.source == text
        assert resolved.locked.files == {"model.gguf": sha(model.read_bytes())}
        assert resolved.locked.facts["architecture"] == "llama"
        assert resolved.folder is not None
        assert [item.name for item in resolved.folder.iterdir()] == ["model.gguf"]
        params = resolved.locked.params()
        assert params.source == "file:model.gguf", "where the file lies must not be in the key"
    fetch_source(params, {"file": model}, out)
    assert (out / "model.gguf").read_bytes() == model.read_bytes()
    assert len(list(out.iterdir())) == 1


def test_the_copy_is_no_link_to_the_users_file(tmp_path: Path) -> None:
    model = tmp_path / "m.bin"
    model.write_bytes(b"one")
    model.chmod(0o444)
    resolved = resolve_source("m.bin", base=tmp_path, work=tmp_path / "work")
    assert resolved.folder is not None
    assert (resolved.folder / "m.bin").stat().st_ino != model.stat().st_ino


def test_a_changed_file(tmp_path: Path, out: Path) -> None:
    model = tmp_path / "m.bin"
    model.write_bytes(b"one")
    params = resolve_source("m.bin", base=tmp_path, work=tmp_path / "work").locked.params()
    model.write_bytes(b"two")
    with pytest.raises(VerificationError, match=sha(b"two")) as caught:
        fetch_source(params, {"file": model}, out)
    assert "changed since flatpack.lock was made" in caught.value.hint


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceError, match="there is no file"):
        resolve_source("missing.gguf", base=tmp_path, work=tmp_path / "work1")
    with pytest.raises(SourceError, match="is a folder"):
        resolve_source("folder", base=tmp_path, work=tmp_path / "work2")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="no ordinary file"):
        resolve_source("pipe", base=tmp_path, work=tmp_path / "work3")


def test_a_damaged_model_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf()[:-1])
    with pytest.raises(VerificationError, match="cut short"):
        resolve_source("m.gguf", base=tmp_path, work=tmp_path / "work")


def test_http_through_the_lock_and_back(site: Site, tmp_path: Path, out: Path) -> None:
    url = site.serve("/models/a%20model.gguf", gguf())
    resolved = resolve_source(url, base=tmp_path, work=tmp_path / "work")
    write_lock(tmp_path / "flatpack.lock", Lock({url: resolved.locked}))
    locked = read_lock(tmp_path / "flatpack.lock").sources[url]
    assert locked == resolved.locked
    fetch_source(locked.params(), {}, out)
    assert [item.name for item in out.iterdir()] == ["a model.gguf"]


def test_nothing_is_left_beside_what_was_fetched(site: Site, out: Path) -> None:
    url = site.serve("/a", b"other")
    with pytest.raises(VerificationError):
        fetch_source(FetchParams(url, {"a": "0" * 64}, {}), {}, out)
    assert [item.name for item in out.iterdir() if item.name.startswith(".")] == []
