from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from flatpack_build import events
from flatpack_build.box.manifest_toml import render_manifest
from flatpack_build.box.payload import PayloadManifest
from flatpack_build.digest import Digest
from flatpack_build.errors import BoxError, StepError
from flatpack_build.materials import Materials, ModelUse
from flatpack_build.params import PackParams
from flatpack_build.steps import pack
from tests.gguf_files import gguf
from tests.heard import Heard

MANIFEST = {
    "targets": ["pi5"],
    "environment": {"model_name": "chat"},
    "version": "0.1.0",
    "model": {"source": "file:model.gguf", "quant": "Q4_0", "context": 2048, "sha256": None},
    "port": [{"external": 8000, "internal": 8000}, {"external": 8001, "internal": 8001}],
    "packages": {"python": {"numpy": "*"}, "unix": {"curl": "*"}},
    "description": 'A chat "assistant"\nthat knows its manual',
}


def _params(places: dict[str, str], **changes: object) -> PackParams:
    fields = {"flatpack": "chat", "flatpack_version": "0.1.0", "target": "pi5", "manifest": json.dumps(MANIFEST)}
    return PackParams(places=places, **(fields | changes))  # type: ignore[arg-type]


def _write(root: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        if content.startswith("#!"):
            file.chmod(0o755)
    return root


def _pack(tmp_path: Path, params: PackParams, inputs: dict[str, Path]) -> Path:
    out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
    out.mkdir()
    pack.run(params, inputs, out)
    return out


def _archive(out: Path) -> dict[str, tarfile.TarInfo]:
    data = zstandard.ZstdDecompressor().stream_reader((out / "payload.tar.zst").read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


def _content(out: Path, name: str) -> bytes:
    data = zstandard.ZstdDecompressor().stream_reader((out / "payload.tar.zst").read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    own = _write(
        tmp_path / "in" / "own",
        {"build.sh": "#!/bin/sh\n", "README.md": "Hello", "flatpack.toml": "# the user's own", "docs/a.md": "A"},
    )
    (own / "models").mkdir()
    (own / "index").mkdir()
    blob = tmp_path / "in" / "4f5a9c"
    blob.write_text("GGUF")
    blob.chmod(0o444)
    script = tmp_path / "in" / "77aa01"
    script.write_text("echo\n")
    index = _write(tmp_path / "in" / "index", {"index.hnsw": "hnsw", "chunks.jsonl": "{}"})
    return {"own": own, "model": blob, "device": script, "index": index}


PLACES = {"own": "", "model": "models/model.gguf", "device": "device.sh", "index": "index"}


def test_everything_is_in_its_place(tmp_path: Path, inputs: dict[str, Path]) -> None:
    (inputs["own"] / "empty" / "inner").mkdir(parents=True)
    out = _pack(tmp_path, _params(PLACES), inputs)
    made = ["payload.json", "payload.tar.zst", "provenance.json", "sbom.cdx.json"]
    assert sorted(path.name for path in out.iterdir()) == made
    archive = _archive(out)
    assert {name: f"{member.mode:o}" for name, member in archive.items()} == {
        "chat": "755",
        "chat/payload.json": "644",
        "chat/README.md": "644",
        "chat/build.sh": "755",
        "chat/device.sh": "755",
        "chat/docs/a.md": "644",
        "chat/empty/inner": "755",
        "chat/flatpack.toml": "644",
        "chat/index/chunks.jsonl": "644",
        "chat/index/index.hnsw": "644",
        "chat/models/model.gguf": "644",
        "chat/provenance.json": "644",
        "chat/sbom.cdx.json": "644",
    }
    assert _content(out, "chat/models/model.gguf") == b"GGUF"
    assert _content(out, "chat/payload.json") == (out / "payload.json").read_bytes()
    for name in ("provenance.json", "sbom.cdx.json"):
        assert _content(out, f"chat/{name}") == (out / name).read_bytes()
    manifest = PayloadManifest.decode((out / "payload.json").read_bytes())
    assert (manifest.flatpack, manifest.version, manifest.target) == ("chat", "0.1.0", "pi5")
    assert manifest.folders == ("empty/inner",)


def test_the_resolved_manifest_takes_the_place_of_the_users(tmp_path: Path, inputs: dict[str, Path]) -> None:
    text = _content(_pack(tmp_path, _params(PLACES), inputs), "chat/flatpack.toml").decode()
    expected = {**MANIFEST, "model": {"source": "file:model.gguf", "quant": "Q4_0", "context": 2048}}
    assert tomllib.loads(text) == expected
    assert text == RENDERED


RENDERED = r"""targets = ["pi5"]
version = "0.1.0"
description = "A chat \"assistant\"\nthat knows its manual"

[environment]
model_name = "chat"

[model]
source = "file:model.gguf"
quant = "Q4_0"
context = 2048

[packages.python]
numpy = "*"

[packages.unix]
curl = "*"

[[port]]
external = 8000
internal = 8000

[[port]]
external = 8001
internal = 8001
"""

keys = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | keys
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _has_none_in_list(value: object) -> bool:
    items: Iterable[object] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any((item is None and isinstance(value, list)) or _has_none_in_list(item) for item in items)


@given(st.dictionaries(keys, values, max_size=5))
def test_any_manifest_comes_back_from_its_toml(manifest: dict[str, object]) -> None:
    if _has_none_in_list(manifest):
        with pytest.raises(BoxError, match="TOML cannot"):
            render_manifest(manifest)
        return
    assert tomllib.loads(render_manifest(manifest)) == _without_none(manifest)


def test_long_lists_are_broken() -> None:
    text = render_manifest({"files": [f"docs/part-{number}.md" for number in range(12)]})
    assert len(text.splitlines()) == 14
    assert tomllib.loads(text)["files"][11] == "docs/part-11.md"


def test_folder_time_umask_and_hash_seed_change_no_byte(tmp_path: Path, inputs: dict[str, Path]) -> None:
    first = _pack(tmp_path, _params(PLACES), inputs)
    elsewhere = tmp_path / "another" / "place"
    elsewhere.parent.mkdir()
    subprocess.run(["cp", "-r", tmp_path / "in", elsewhere], check=True)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1e9, 1e9))
        if path.is_file() and not os.access(path, os.X_OK):
            path.chmod(0o600)
    moved = {name: elsewhere / path.relative_to(tmp_path / "in") for name, path in reversed(inputs.items())}
    code = (
        "import json, os, sys; os.umask(0o077)\n"
        "from pathlib import Path\n"
        "from flatpack_build.params import params_from_json\n"
        "from flatpack_build.steps import pack\n"
        "params, inputs, out = json.loads(sys.argv[1])\n"
        "pack.run(params_from_json('pack', params), {k: Path(v) for k, v in inputs.items()}, Path(out))\n"
    )
    second = tmp_path / "second"
    second.mkdir()
    job = json.dumps([_params(PLACES).to_json(), {name: str(path) for name, path in moved.items()}, str(second)])
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, job], check=True, env=environment)
    for name in ("payload.tar.zst", "payload.json", "provenance.json", "sbom.cdx.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_inputs_are_left_alone(tmp_path: Path, inputs: dict[str, Path]) -> None:
    for root in inputs.values():
        root.chmod(0o555 if root.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "in").rglob("*")}
    _pack(tmp_path, _params(PLACES), inputs)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "in").rglob("*")} == before
    for root in inputs.values():
        root.chmod(0o755)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"a": "1"}, {"a": "1"}, r"input 'one' and input 'two' both want the path 'a'"),
        (
            {"readme": "1"},
            {"README": "1"},
            r"'README' \(input 'two'\) and 'readme' \(input 'one'\) differ only in case",
        ),
        (
            {"docs/a": "1"},
            {"Docs/b": "1"},
            r"'docs/a' \(input 'one'\) and 'Docs/b' \(input 'two'\) differ only in case",
        ),
        ({"caf\u00e9": "1"}, {"cafe\u0301": "1"}, "Unicode form"),
        ({"a": "1"}, {"a/b": "1"}, r"\(input 'one'\).*\(input 'two'\) need one name for both a file and a folder"),
        ({"flatpack.toml": ""}, {"Flatpack.toml": ""}, "the resolved manifest.*differ only in case"),
        ({"payload.json": "1"}, {}, "input 'one' has a file 'payload.json'"),
        ({"provenance.json": "1"}, {}, "input 'one' has a file 'provenance.json'"),
        ({"sbom.cdx.json": "1"}, {}, "input 'one' has a file 'sbom.cdx.json'"),
        ({"a\\b": "1"}, {}, r"of input 'one' has a backslash"),
        ({"a\nb": "1"}, {}, "control character"),
    ],
)
def test_paths_that_exclude_each_other(
    tmp_path: Path, first: dict[str, str], second: dict[str, str], message: str
) -> None:
    for name, files in (("one", first), ("two", second)):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, files)
    with pytest.raises(StepError, match=message) as caught:
        _pack(tmp_path, _params({"one": "", "two": ""}), {"one": tmp_path / "one", "two": tmp_path / "two"})
    assert caught.value.hint


@pytest.mark.parametrize("place", ["../x", "a/../../x", "a//b"])
def test_places_outside_the_box(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StepError, match=r"leaves the folder|empty part"):
        _pack(tmp_path, _params({"one": place}), {"one": tmp_path / "file"})


def test_inputs_that_have_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StepError, match="'one' has no place"):
        _pack(tmp_path, _params({}), {"one": tmp_path / "file"})
    with pytest.raises(StepError, match="has no name in the box"):
        _pack(tmp_path, _params({"one": ""}), {"one": tmp_path / "file"})
    with pytest.raises(StepError, match="is missing"):
        _pack(tmp_path, _params({"one": "x"}), {"one": tmp_path / "missing"})


@pytest.mark.parametrize("kind", ["link", "broken", "pipe", "name"])
def test_what_is_no_plain_file_is_not_packed(tmp_path: Path, kind: str) -> None:
    root = _write(tmp_path / "own", {"real": "1"})
    if kind == "link":
        (root / "x").symlink_to("real")
    elif kind == "broken":
        (root / "x").symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(root / "x")
    else:
        (root / os.fsdecode(b"x\xff")).write_text("")
    with pytest.raises(StepError, match="not valid UTF-8" if kind == "name" else "'x' is not a plain file"):
        _pack(tmp_path, _params({"own": ""}), {"own": root})


@pytest.mark.parametrize("manifest", ["", "[]", '{"a": [null]}'])
def test_a_manifest_that_cannot_be_written(tmp_path: Path, manifest: str) -> None:
    with pytest.raises(StepError, match="resolved manifest"):
        _pack(tmp_path, _params({}, manifest=manifest), {})


def test_the_bill_describes_the_model_that_is_packed(tmp_path: Path, inputs: dict[str, Path]) -> None:
    inputs["model"].chmod(0o644)
    inputs["model"].write_bytes(gguf())
    materials = Materials(builder="1", license="MIT", model=ModelUse("gguf", "F16")).encode()
    out = _pack(tmp_path, _params(PLACES, materials=materials), inputs)
    bill = json.loads((out / "sbom.cdx.json").read_text())
    (model,) = (part for part in bill["components"] if part["type"] == "machine-learning-model")
    assert model["hashes"][0]["content"] == Digest.of_bytes(gguf())
    assert model["modelCard"]["modelParameters"]["modelArchitecture"] == "llama"
    provenance = json.loads((out / "provenance.json").read_text())
    subjects = {item["name"]: item["digest"]["sha256"] for item in provenance["subject"]}
    manifest = PayloadManifest.decode((out / "payload.json").read_bytes())
    assert subjects == {file.path: file.sha256 for file in manifest.files if file.path != "provenance.json"}


def test_materials_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="no materials"):
        _pack(tmp_path, _params({}, materials="{"), {})


def test_progress_is_in_bytes(tmp_path: Path, inputs: dict[str, Path]) -> None:
    heard = Heard()
    with events.listening(heard):
        out = _pack(tmp_path, _params(PLACES), inputs)
    size = PayloadManifest.decode((out / "payload.json").read_bytes()).size
    assert heard.steps[0] == (0, size, "bytes")
    assert heard.steps[-1] == (size, size, "bytes")
