"""What is said about a box without unpacking it, and about two of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flatpack_build.box.container import SEPARATOR
from flatpack_build.box.contents import open_box
from flatpack_build.box.description import BoxDescription, describe_open_box, read_files
from flatpack_build.box.difference import Difference, compare_open_boxes
from flatpack_build.box.documents import Component, Material, summarise_provenance, summarise_sbom
from flatpack_build.box.packing import PayloadEntry
from flatpack_build.errors import BoxError
from tests.box.original import original_box, original_folder, original_payload
from tests.box.samples import ENTRIES, KeyPair, make_box
from tests.gguf_files import METADATA, gguf

STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {
        "buildDefinition": {
            "buildType": "urn:x",
            "resolvedDependencies": [{"uri": "pkg:pypi/a@1", "digest": {"sha256": "00ff"}}, {"name": "b"}, "junk"],
        },
        "runDetails": {"builder": {"id": "urn:builder", "version": {"flatpack-build": "0.1.0"}}},
    },
}
SBOM = {
    "bomFormat": "CycloneDX",
    "components": [
        {"type": "machine-learning-model", "name": "m", "licenses": [{"license": {"id": "MIT"}}]},
        {"type": "library", "name": "l", "version": "2", "licenses": [{"expression": "MIT OR ISC"}, 3]},
    ],
}


def _describe(box: Path) -> BoxDescription:
    with open_box(box) as file:
        return describe_open_box(file)


def _compare(one: Path, other: Path) -> Difference:
    with open_box(one) as before, open_box(other) as after:
        return compare_open_boxes(before, after)


def test_files_models_and_documents_are_found(tmp_path: Path, key: KeyPair) -> None:
    entries = [
        *ENTRIES,
        PayloadEntry("models/a.gguf", gguf()),
        PayloadEntry("models/broken.gguf", b"GGUF" + bytes(50)),
        PayloadEntry("provenance.json", json.dumps(STATEMENT).encode()),
        PayloadEntry("sbom.cdx.json", json.dumps(SBOM).encode()),
        PayloadEntry("zzz", b"after all that is of interest"),
    ]
    description = _describe(make_box(tmp_path, key.private, [e for e in entries if e.path != "models"]))
    assert description.manifest and description.top == "chat"
    assert {entry.path for entry in description.entries} >= {"zzz", "models/a.gguf", "build.sh"}
    assert description.size == sum(entry.size for entry in description.entries)
    good, broken = description.models
    assert (good.path, good.facts["architecture"], good.facts["name"], good.problem) == (
        "models/a.gguf", "llama", "Tiny", "",
    )  # fmt: skip
    assert broken.path == "models/broken.gguf" and "not a usable GGUF" in broken.problem and not broken.facts
    provenance = summarise_provenance(description.documents["provenance.json"])
    assert provenance
    assert (provenance.builder, provenance.version, provenance.build_type) == (
        "urn:builder", "flatpack-build 0.1.0", "urn:x",
    )  # fmt: skip
    assert provenance.materials[:2] == (Material("pkg:pypi/a@1", ("sha256:00ff",)), Material("b", ()))
    assert summarise_sbom(description.documents["sbom.cdx.json"]) == (
        Component("machine-learning-model", "m", "", ("MIT",)),
        Component("library", "l", "2", ("MIT OR ISC",)),
    )


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'"x"', b"null", b"[" * 100_000, b"\xff", b'{"predicate": 3, "bomFormat": []}']
)
def test_documents_that_are_none(data: bytes) -> None:
    assert summarise_provenance(data) is None
    assert summarise_sbom(data) is None


@pytest.mark.parametrize("predicate", [{"x": 1}, {"buildDefinition": 1, "runDetails": [1]}])
def test_odd_documents_do_no_harm(predicate: object) -> None:
    provenance = summarise_provenance(json.dumps({"predicate": predicate}).encode())
    assert provenance and provenance.materials == ()


def test_a_damaged_box_is_an_error(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    data = box.read_bytes()
    for content in (data[:400], b"hello", data[:20] + bytes([data[20] ^ 255]) + data[21:]):
        (tmp_path / "a.fpk").write_bytes(content)
        with pytest.raises(BoxError):
            _describe(tmp_path / "a.fpk")


def test_only_the_first_bytes_of_what_is_wanted_are_read(tmp_path: Path, key: KeyPair) -> None:
    box = make_box(tmp_path, key.private)
    with open_box(box) as file:
        found = read_files(file, {"flatpack.toml": 7, "weights.bin": 10, "missing": 5})
    assert found["flatpack.toml"] == b"version"
    assert len(found["weights.bin"]) == 10 and "missing" not in found


def test_the_same_content_does_not_differ_whoever_signed(tmp_path: Path, key: KeyPair, other_key: KeyPair) -> None:
    one = make_box(tmp_path, key.private, name="a.fpk")
    other = make_box(tmp_path, other_key.private, name="b.fpk")
    assert not _compare(one, other)


def test_what_differs(tmp_path: Path, key: KeyPair) -> None:
    changed = {**METADATA, "general.name": (8, "Bigger")}
    before = [
        PayloadEntry("gone", b"1"),
        PayloadEntry("mode.sh", b"#!/bin/sh\n"),
        PayloadEntry("text.md", b"one\ntwo\nthree\n"),
        PayloadEntry("binary", b"\0\1"),
        PayloadEntry("latin", b"\xe4"),
        PayloadEntry("large.txt", b"x\n" * 40_000),
        PayloadEntry("models/q4.gguf", gguf()),
        PayloadEntry("same", b"same"),
    ]
    after = [
        PayloadEntry("new", b"22"),
        PayloadEntry("mode.sh", b"#!/bin/sh\n", executable=True),
        PayloadEntry("text.md", b"one\n2\nthree\n"),
        PayloadEntry("binary", b"\0\2"),
        PayloadEntry("latin", b"\xe5"),
        PayloadEntry("large.txt", b"y\n" * 40_000),
        PayloadEntry("models/q8.gguf", gguf(changed)),
        PayloadEntry("same", b"same"),
    ]
    difference = _compare(
        make_box(tmp_path, key.private, before, name="a.fpk"), make_box(tmp_path, key.private, after, name="b.fpk")
    )
    assert [entry.path for entry in difference.added] == ["models/q8.gguf", "new"]
    assert [(entry.path, entry.size) for entry in difference.removed if "gguf" not in entry.path] == [("gone", 1)]
    texts = {change.path: change.text for change in difference.changed}
    assert sorted(texts) == ["binary", "large.txt", "latin", "mode.sh", "text.md"]
    assert texts.pop("text.md").splitlines() == [
        "--- a/text.md", "+++ b/text.md", "@@ -1,3 +1,3 @@", " one", "-two", "+2", " three",
    ]  # fmt: skip
    assert set(texts.values()) == {""}
    facts = [(fact.about, fact.fact, fact.before, fact.after) for fact in difference.facts]
    assert ("models/q8.gguf", "name", "Tiny", "Bigger") in facts
    assert not any(fact[1] == "parameters" for fact in facts)


def test_a_box_of_ours_against_one_of_the_original(tmp_path: Path, key: KeyPair) -> None:
    ours = make_box(tmp_path, key.private, name="a.fpk")
    (tmp_path / "b.fpk").write_bytes(original_box(original_payload(original_folder(tmp_path)), key.private.rsa))
    difference = _compare(ours, tmp_path / "b.fpk")
    assert [(fact.fact, fact.after) for fact in difference.facts] == [("version", None), ("target", None)]
    assert {change.path for change in difference.changed} == {"build.sh", "flatpack.toml"}
    assert '+version = "0.0.3"' in {change.path: change.text for change in difference.changed}["flatpack.toml"]
    assert SEPARATOR in ours.read_bytes()
