"""The bill of materials: valid by CycloneDX's own schema, true, and the same each time."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from flatpack_build.box.payload import PayloadManifest
from flatpack_build.box.sbom import Described, ModelInBox, encode_sbom
from flatpack_build.materials import Materials
from tests.box.described import CONTENTS, DESCRIBED, FACTS, MATERIALS, MODEL, digest, file


def bill(described: Described = DESCRIBED) -> dict[str, Any]:
    text = encode_sbom(described).decode()
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, error
    document: dict[str, Any] = json.loads(text)
    return document


def components(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {component["bom-ref"]: component for component in document["components"]}


def licenses(component: dict[str, Any]) -> list[str]:
    found = []
    for item in component.get("licenses", []):
        found.append(item.get("expression") or item["license"].get("id") or "name: " + item["license"]["name"])
    return found


def test_the_flatpack_is_the_main_component() -> None:
    document = bill()
    main = document["metadata"]["component"]
    assert (main["name"], main["version"], main["type"]) == ("chat", "1.0.0", "application")
    assert licenses(main) == ["GPL-3.0-or-later WITH Classpath-exception-2.0"]
    assert document["metadata"]["tools"]["components"][0]["version"] == "9.9.9"
    (depends,) = (item["dependsOn"] for item in document["dependencies"] if item["ref"] == "flatpack")
    assert sorted(depends) == sorted(components(document))


def test_the_model_has_a_card_a_licence_and_an_origin() -> None:
    model = components(bill())["model"]
    assert (model["name"], model["type"]) == ("Chat 135M", "machine-learning-model")
    assert model["hashes"] == [{"alg": "SHA-256", "content": MODEL.sha256}]
    assert licenses(model) == ["Apache-2.0"]
    assert model["modelCard"]["modelParameters"] == {"modelArchitecture": "llama"}
    card = {item["name"].removeprefix("flatpack-build:"): item["value"] for item in model["modelCard"]["properties"]}
    assert card == {
        "format": "gguf", "name": "Chat 135M", "parameters": "134515008", "quantisation": "Q4_0",
        "size": str(MODEL.size),
    }  # fmt: skip
    (origin,) = model["pedigree"]["ancestors"]
    assert origin["purl"] == f"pkg:huggingface/org/chat-GGUF@{'d' * 40}#chat.gguf"
    assert origin["hashes"][0]["content"] == digest("original")
    assert model["pedigree"]["notes"] == "quantised from Q4_1 to Q4_0"


def test_a_model_as_it_came_has_its_origins_address() -> None:
    sources = tuple(
        replace(use, files={"chat.gguf": MODEL.sha256}) if use.role == "model" else use for use in MATERIALS.sources
    )
    model = components(bill(replace(DESCRIBED, materials=replace(MATERIALS, sources=sources))))["model"]
    assert "pedigree" not in model
    assert model["purl"].startswith("pkg:huggingface/org/chat-GGUF@")


def test_without_a_licence_in_the_manifest_the_models_own_header_counts() -> None:
    sources = tuple(replace(use, licenses=()) for use in MATERIALS.sources)
    model = ModelInBox(MODEL, {**FACTS, "license": "llama3.2"})
    document = bill(replace(DESCRIBED, materials=replace(MATERIALS, sources=sources), model=model))
    assert licenses(components(document)["model"]) == ["name: llama3.2"]


def test_both_licences_of_the_embedder_are_named() -> None:
    embedder = components(bill())["source:embedder"]
    assert sorted(licenses(embedder)) == ["MIT", "name: Llama 2 Community License Agreement"]
    assert embedder["purl"] == "pkg:pypi/words@0.4"
    assert {part["name"]: part["hashes"][0]["content"] for part in embedder["components"]} == {
        "table.safetensors": digest("table"),
        "tokens.json": digest("tokens"),
    }


def test_wheels_repositories_and_data_have_addresses_and_digests() -> None:
    found = components(bill())
    wheel = found["wheel:num_py-1.0-py3-none-any.whl"]
    assert (wheel["purl"], wheel["hashes"][0]["content"]) == ("pkg:pypi/num-py@1.0", digest("numpy"))
    repository = found["source:git:tools"]
    assert (repository["name"], repository["version"]) == ("tools", "c" * 40)
    assert repository["externalReferences"] == [{"type": "vcs", "url": f"git+https://example.org/tools.git@{'c' * 40}"}]
    data = found["source:dataset:data/q.csv"]
    assert (data["type"], data["hashes"][0]["content"]) == ("data", digest("q"))
    assert data["externalReferences"] == [{"type": "distribution", "url": "https://example.org/q.csv"}]
    assert not any(ref.startswith("source:signature") for ref in found)


def test_documents_are_data_and_the_index_depends_on_them() -> None:
    document = bill()
    documents = components(document)["documents"]
    assert documents["type"] == "data"
    assert [part["name"] for part in documents["components"]] == ["README.md", "manual/a.md"]
    (depends,) = (item["dependsOn"] for item in document["dependencies"] if item["ref"] == "index")
    assert sorted(depends) == ["documents", "source:embedder"]


def test_an_empty_box_has_a_bill_too() -> None:
    assert bill(Described(PayloadManifest("x", "1", "pi5", ()), Materials()))["metadata"]["component"]["name"] == "x"


def test_it_is_the_same_each_time_and_another_for_another_box() -> None:
    first = encode_sbom(DESCRIBED)
    time.sleep(0.01)
    assert encode_sbom(DESCRIBED) == first
    assert b"timestamp" not in first
    other = replace(DESCRIBED, contents=replace(CONTENTS, version="1.0.1"))
    assert json.loads(encode_sbom(other))["serialNumber"] != json.loads(first)["serialNumber"]


def test_ten_thousand_documents_take_no_time() -> None:
    many = [file(f"manual/{number}.md") for number in range(10_000)]
    start = time.monotonic()
    encode_sbom(replace(DESCRIBED, documents=many))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("text", ["Apache-2.0", "MIT OR Apache-2.0", "My own, ask me", "llama3.2"])
def test_any_licence_text_makes_a_valid_bill(text: str) -> None:
    found = licenses(bill(replace(DESCRIBED, materials=replace(MATERIALS, license=text)))["metadata"]["component"])
    assert [item.removeprefix("name: ") for item in found] == [text]
