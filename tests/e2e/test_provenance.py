"""Where a box comes from, as a user sees it: files in it and beside it, model signatures, and making it once more.

The tests run in the order of the file in one worker; each leaves the project as it found it.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from flatpack_build.box.provenance import dependencies_of, read_statement, subjects_of, tool_versions
from flatpack_build.digest import Digest
from tests.e2e.conftest import GREETING, WORDS, Project, make_project

SEPARATOR = b"---SIGNATURE_SEPARATOR---"
BOX = "dist/small-0.1.0-pi5.fpk"


def make_small(root: Path, cache: Path) -> Project:
    project = make_project(root, cache)
    project.write("small", GREETING.replace("targets", 'license = "MIT"\ntargets'), WORDS)
    project.doit("build:small")
    return project


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("small")
    return make_small(root / "project", root / "cache")


def inside(box: Path, name: str) -> bytes:
    payload = box.read_bytes().rpartition(SEPARATOR)[0]
    with tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompressobj().decompress(payload))) as archive:
        file = archive.extractfile(f"{archive.getnames()[0]}/{name}")
        assert file is not None
        return file.read()


def beside(project: Project) -> dict[str, Digest]:
    return {path.name: Digest.of_file(path) for path in sorted((project.root / "dist").iterdir())}


def bill(data: bytes) -> dict[str, Any]:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode())
    assert error is None, error
    document: dict[str, Any] = json.loads(data)
    return document


def test_every_box_has_both_inside_and_beside(small: Project) -> None:
    for target in ("laptop", "pi5"):
        box = small.root / f"dist/small-0.1.0-{target}.fpk"
        sbom = inside(box, "sbom.cdx.json")
        assert Path(f"{box}.sbom.cdx.json").read_bytes() == sbom
        assert bill(sbom)["metadata"]["component"]["licenses"] == [{"license": {"id": "MIT"}}]
        within = read_statement(inside(box, "provenance.json"))
        for name, digest in subjects_of(within).items():
            assert Digest.of_bytes(inside(box, name)) == digest
        without = read_statement(Path(f"{box}.provenance.json").read_bytes())
        payload = box.read_bytes().rpartition(SEPARATOR)[0]
        assert subjects_of(without) == {
            box.name: Digest.of_file(box),
            "payload.tar.zst": Digest.of_bytes(payload),
        }
        assert {"python", "flatpack-build", "zstandard", "jinja2"} <= tool_versions(without).keys()


def test_what_comes_out_of_the_box_is_what_it_says(small: Project, tmp_path: Path) -> None:
    small.flatpack("unbox", "small", "--local", "--target", "pi5", "--to", str(tmp_path / "small"))
    for name, digest in subjects_of(read_statement(inside(small.root / BOX, "provenance.json"))).items():
        assert Digest.of_file(tmp_path / "small" / name) == digest
    assert (tmp_path / "small" / "greeting.txt").is_file() and os.access(tmp_path / "small" / "build.sh", os.X_OK)


def test_the_action_keys_beside_are_those_of_the_build(small: Project) -> None:
    actions = json.loads((small.root / f"{BOX}.provenance.json").read_text())["predicate"]["buildDefinition"][
        "internalParameters"
    ]["actions"]
    named = {action["name"]: action["key"] for action in actions}
    assert sorted(named) == ["assemble:small@pi5", "device:small@pi5", "pack:small@pi5", "run:small/greeting"]
    kept = {path.name for path in (small.cache / "actions").rglob("*") if path.is_file()}
    assert set(named.values()) <= kept


def test_nothing_of_this_machine_is_in_the_box(small: Project) -> None:
    for name in ("provenance.json", "sbom.cdx.json"):
        data = inside(small.root / BOX, name)
        for word in (os.fspath(small.root), os.fspath(small.cache), os.uname().nodename, time.strftime("%Y-%m-%d")):
            assert word.encode() not in data


def test_two_folders_two_caches_and_two_times_give_the_same_bytes(small: Project, tmp_path: Path) -> None:
    time.sleep(1.1)
    other = make_small(tmp_path / "there/deeper/project", tmp_path / "cache")
    for name in ("provenance.json", "sbom.cdx.json"):
        assert inside(small.root / BOX, name) == inside(other.root / BOX, name)
    assert (small.root / f"{BOX}.sbom.cdx.json").read_bytes() == (other.root / f"{BOX}.sbom.cdx.json").read_bytes()
    one, two = (project.root / f"{BOX}.provenance.json" for project in (small, other))
    assert one.read_bytes() != two.read_bytes()  # other boxes, at other times


def test_one_target_does_not_show_in_the_others_box(small: Project, tmp_path: Path) -> None:
    alone = make_project(tmp_path / "project", tmp_path / "cache")
    shutil.copytree(small.root / "warehouse/small", alone.root / "warehouse/small")
    (alone.root / "warehouse/small/flatpack.lock").unlink()
    alone.edit("warehouse/small/flatpack.toml", '["laptop", "pi5"]', '["pi5"]')
    alone.doit("build:small")
    assert inside(alone.root / BOX, "provenance.json") == inside(small.root / BOX, "provenance.json")


@pytest.mark.parametrize("suffix", ["", ".provenance.json", ".sbom.cdx.json"])
def test_what_is_missing_or_changed_comes_back_the_same(small: Project, suffix: str) -> None:
    time.sleep(0.25)
    small.doit("build:small")  # leaves a stamp
    before = beside(small)
    path = small.root / f"{BOX}{suffix}"
    path.unlink()
    assert small.built("build:small") == []
    assert beside(small) == before
    path.unlink()
    path.write_text("something else")
    assert small.built("build:small") == []
    assert beside(small) == before


def test_without_build_and_dist_everything_comes_back_the_same(small: Project) -> None:
    before = beside(small)
    assert len(before) == 6
    shutil.rmtree(small.root / "dist")
    shutil.rmtree(small.root / "build")
    assert small.built("build:small") == []
    assert beside(small) == before


def test_clean_takes_them_away_too(small: Project) -> None:
    before = beside(small)
    small.doit("clean", "pack:small@pi5")
    assert sorted(beside(small)) == sorted(name for name in before if "laptop" in name)
    small.doit("build:small")
    assert beside(small) == before


@pytest.mark.skipif(
    importlib.util.find_spec("model_signing") is None or importlib.util.find_spec("OpenSSL") is None,
    reason="the packages model-signing and pyopenssl are not installed (pip install 'flatpack-build[dev]')",
)
def test_model_signatures_where_the_settings_ask_for_them(small: Project) -> None:
    before = beside(small)
    settings = (small.root / "pyproject.toml").read_text()
    with_key = settings + 'model_signing_key = "keys/model-signing.pem"\n'
    (small.root / "pyproject.toml").write_text(with_key)
    failed = small.doit("build:small", check=False)
    assert failed.returncode != 0
    assert "flatpack keygen --ec" in failed.stdout + failed.stderr
    small.flatpack("keygen", "--ec", "--development")
    assert small.built("build:small") == []
    signed = beside(small)
    assert sorted(set(signed) - set(before)) == [f"small-0.1.0-{target}.fpk.model.sig" for target in ("laptop", "pi5")]
    assert {name: signed[name] for name in before} == before
    command = [sys.executable, "-W", "ignore", "-m", "model_signing", "verify", "key", BOX]
    arguments = ["--signature", f"{BOX}.model.sig", "--public_key", "keys/model-signing.pub.pem"]
    done = subprocess.run([*command, *arguments], cwd=small.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (small.root / f"{BOX}.model.sig").unlink()
    small.doit("build:small")
    assert beside(small) == signed
    # Without the setting the signature of this box may stay, but never beside another box.
    (small.root / "pyproject.toml").write_text(settings)
    small.edit("warehouse/small/words.txt", "hello", "good day")
    small.doit("build:small")
    assert not list((small.root / "dist").glob("*.model.sig"))
    small.edit("warehouse/small/words.txt", "good day", "hello")
    small.doit("build:small")
    assert beside(small) == before


def test_a_box_is_reproduced(small: Project) -> None:
    before = sorted((small.root / "build").rglob("*"))
    done = small.flatpack("reproduce", BOX)
    assert "same: the payload came out byte for byte" in done.stdout
    for action in ("run:small/greeting", "assemble:small@pi5", "device:small@pi5", "pack:small@pi5"):
        assert f"built    {action}" in done.stdout  # all of it was made again
    assert sorted((small.root / "build").rglob("*")) == before
    assert not any((small.cache / "tmp").iterdir())
    said = json.loads(small.flatpack("reproduce", BOX, "--json", "--key", "keys/development.pub.pem").stdout)
    assert said["same"]
    assert said["payload"] == said["rebuilt"]
    assert said["files"] == said["tools"] == []


def test_a_changed_file_is_named(small: Project) -> None:
    small.edit("warehouse/small/words.txt", "hello", "good day")
    small.edit("warehouse/small/flatpack.toml", "< words.txt", "< ./words.txt")
    done = small.flatpack("reproduce", BOX, check=False)
    small.edit("warehouse/small/words.txt", "good day", "hello")
    small.edit("warehouse/small/flatpack.toml", "< ./words.txt", "< words.txt")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    digest = Digest.of_bytes(b"GOOD DAY\n").short
    assert any(line.startswith("  greeting.txt: 6 bytes") and f"9 bytes, mode 0644, sha256 {digest} rebuilt" in line
               for line in lines)  # fmt: skip
    assert any(line.startswith("  words.txt: 6 bytes") for line in lines)
    assert any(line.startswith("  manifest.build.greeting.command: tr a-z A-Z < words.txt") for line in lines)
    assert not any("device.sh" in line for line in lines)


def test_a_tool_of_another_version_is_named(small: Project) -> None:
    file = small.root / f"{BOX}.provenance.json"
    statement = json.loads(file.read_text())
    for action in statement["predicate"]["buildDefinition"]["internalParameters"]["actions"]:
        if "jinja2" in action["tools"]:
            action["tools"]["jinja2"] = "2.0"
    file.unlink()
    file.write_text(json.dumps(statement))
    small.edit("warehouse/small/words.txt", "hello", "good day")
    done = small.flatpack("reproduce", BOX, check=False)
    file.unlink()
    unknown = small.flatpack("reproduce", BOX, check=False)
    small.edit("warehouse/small/words.txt", "good day", "hello")
    small.doit("build:small")
    assert "  jinja2: 2.0 recorded, 3." in done.stdout
    assert "jinja2" not in unknown.stdout
    assert "versions of the tools are not known" in unknown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dist/none.fpk"], "there is no such box"),
        ([BOX, "--key", "other.pub.pem"], "trusted keys: other"),
        (["dist/small-0.1.0-pi5.fpk.sbom.cdx.json"], "is not a box"),
    ],
)
def test_what_cannot_be_reproduced_is_neither_same_nor_different(
    small: Project, arguments: list[str], message: str
) -> None:
    if not (small.root / "other.pem").exists():
        small.flatpack("keygen", "--development", "other.pem")
    done = small.flatpack("reproduce", *arguments, check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_target_that_is_gone_is_said_to_be(small: Project) -> None:
    small.edit("warehouse/small/flatpack.toml", '["laptop", "pi5"]', '["laptop"]')
    done = small.flatpack("reproduce", BOX, check=False)
    small.edit("warehouse/small/flatpack.toml", '["laptop"]', '["laptop", "pi5"]')
    assert done.returncode == 2
    assert "not built for pi5 in this project, but for laptop" in done.stderr


@pytest.mark.network
def test_hello_docs_names_its_embedders_licences_and_is_reproduced(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", tmp_path / "cache", "hello-docs")
    project.edit("warehouse/hello-docs/flatpack.toml", 'targets = ["laptop", "pi5"]', 'targets = ["pi5"]')
    project.doit("build:hello-docs")
    box = project.root / "dist/hello-docs-0.1.0-pi5.fpk"
    parts = {part["bom-ref"]: part for part in bill(inside(box, "sbom.cdx.json"))["components"]}
    licenses = [item["license"] for item in parts["source:embedder"]["licenses"]]
    assert {"id": "MIT"} in licenses
    assert {"name": "Llama 2 Community License Agreement"} in licenses
    assert "README.md" in [part["name"] for part in parts["documents"]["components"]]
    sources = dependencies_of(read_statement(inside(box, "provenance.json")))
    assert any(uri.startswith("pkg:pypi/wordllama@") for uri in sources)
    shown = project.flatpack("inspect", os.fspath(box)).stdout
    assert "Llama 2 Community License Agreement" in shown
    assert "same: " in project.flatpack("reproduce", os.fspath(box)).stdout
    with open(project.root / "warehouse/hello-docs/README.md", "a") as file:
        file.write("\nOne more sentence.\n")
    done = project.flatpack("reproduce", os.fspath(box), check=False)
    assert done.returncode == 1
    for name in ("README.md", "vector/chunks.jsonl", "vector/index.hnsw"):
        assert f"  {name}: " in done.stdout
