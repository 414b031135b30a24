"""The provenance: a Statement by in-toto's own library, with SLSA's predicate by its own schema."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from flatpack_build.box.locators import locator
from flatpack_build.box.provenance import (
    ActionFacts,
    RunFacts,
    beside,
    dependencies_of,
    encode_statement,
    parameters_of,
    read_statement,
    statement,
    steps_of,
    subjects_of,
    tool_versions,
)
from flatpack_build.digest import Json
from flatpack_build.errors import BoxError
from tests.box.described import CONTENTS, MATERIALS, MODEL, digest

MANIFEST: Json = {"version": "1.0.0", "model": {"quant": "keep"}}
ACTION = ActionFacts(
    "compress:chat@pi5",
    "k" * 64,
    digest("tree"),
    1.5,
    ("requantised",),
    (
        ("step", "compress"), ("step version", 3), ("tool llama-cpp-python", "0.3"), ("parameter quant", "Q4_0"),
        ("input model", "file:" + "a" * 64),
    ),
)  # fmt: skip
RUN = RunFacts(1_000_000_000.7, 1_000_000_001.2, {"python": "3.11.2"}, (ACTION,))


def inside() -> dict[str, Json]:
    return read_statement(encode_statement(statement(CONTENTS, MANIFEST, MATERIALS)))


def outside() -> dict[str, Json]:
    return read_statement(
        encode_statement(beside(inside(), {"chat.fpk": digest("box"), "payload.tar.zst": digest("payload")}, RUN))
    )


def validate(value: dict[str, Json]) -> provenance_pb2.Provenance:
    """By the libraries of those who define the formats: an unknown field or a wrong type is an error."""
    parsed = json_format.Parse(json.dumps(value), statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert parsed.predicate_type == "https://slsa.dev/provenance/v1"
    provenance = json_format.Parse(json_format.MessageToJson(parsed.predicate), provenance_pb2.Provenance())
    assert provenance.build_definition.build_type
    assert provenance.run_details.builder.id
    return provenance


def test_the_statement_inside_is_about_every_other_file() -> None:
    value = inside()
    provenance = validate(value)
    assert subjects_of(value) == {file.path: file.sha256 for file in CONTENTS.files}
    assert subjects_of(value)[MODEL.path] == MODEL.sha256
    assert provenance.run_details.builder.version["flatpack-build"] == "9.9.9"
    assert parameters_of(value) == {"flatpack": "chat", "version": "1.0.0", "target": "pi5", "manifest": MANIFEST}
    assert steps_of(value)["quant of step compress"] == "Q4_0"
    assert steps_of(value)["version of step compress"] == "3"
    assert steps_of(value)["command of step run words"] == "make"


def test_every_source_and_wheel_is_a_dependency_with_its_digest() -> None:
    assert dependencies_of(inside()) == {
        "pkg:pypi/words@0.4#words/table.safetensors": f"sha256:{digest('table')}",
        "pkg:pypi/words@0.4#words/tokens.json": f"sha256:{digest('tokens')}",
        f"git+https://example.org/tools.git@{'c' * 40}": f"gitCommit:{'c' * 40}",
        "https://example.org/q.csv": f"sha256:{digest('q')}",
        f"pkg:huggingface/org/chat-GGUF@{'d' * 40}#chat.gguf": f"sha256:{digest('original')}",
        "https://example.org/chat.sig": f"sha256:{digest('sig')}",
        "pkg:pypi/num-py@1.0": f"sha256:{digest('numpy')}",
    }


def test_the_statement_beside_is_about_box_and_payload_and_names_the_run() -> None:
    value = outside()
    provenance = validate(value)
    assert subjects_of(value) == {"chat.fpk": digest("box"), "payload.tar.zst": digest("payload")}
    assert provenance.run_details.metadata.started_on.seconds == 1_000_000_000
    assert tool_versions(value) == {"flatpack-build": "9.9.9", "llama-cpp-python": "0.3", "python": "3.11.2"}
    (action,) = json_format.MessageToDict(provenance.build_definition.internal_parameters)["actions"]
    assert action == {
        "name": "compress:chat@pi5", "key": "k" * 64, "step": "compress", "version": 3, "seconds": 1.5,
        "notes": ["requantised"], "output": {"sha256": digest("tree")}, "tools": {"llama-cpp-python": "0.3"},
        "inputs": {"model": "file:" + "a" * 64},
    }  # fmt: skip
    assert dependencies_of(value) == dependencies_of(inside())


def test_inside_stands_nothing_of_one_run_only() -> None:
    text = json.dumps(inside())
    assert all(word not in text for word in ("metadata", "startedOn", "seconds", "actions", 'python"'))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"null", b"\xff", b'{"_type": 1}', b"[" * 100_000,
        encode_statement({**inside(), "predicateType": "https://example.org/other"}),
        encode_statement({**inside(), "predicate": {"buildDefinition": {"buildType": "other"}}}),
        encode_statement({**inside(), "predicate": 3}),
    ],
)  # fmt: skip
def test_what_is_no_provenance_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(BoxError):
        read_statement(data)


def test_odd_values_are_no_traceback() -> None:
    value = {**inside(), "subject": "x"}
    definition: Json = {
        "buildType": "urn:flatpack-build:build:v1",
        "internalParameters": [],
        "resolvedDependencies": [1, "a"],
    }
    value["predicate"] = {"buildDefinition": definition, "runDetails": None}
    odd = read_statement(encode_statement(value))
    assert subjects_of(odd) == {}
    assert tool_versions(odd) == {}
    assert steps_of(odd) == {}
    assert len(dependencies_of(odd)) == 1


@pytest.mark.parametrize(
    ("source", "identity", "file", "expected"),
    [
        ("file:a b.gguf", {}, "", "file:a%20b.gguf"),
        ("file:/home/somebody/a.gguf", {}, "", "file:a.gguf"),
        ("pypi:A_b==1.0+cpu#x/y z.bin", {}, "", "pkg:pypi/a-b@1.0%2Bcpu#x/y%20z.bin"),
        ("pypi:a==1#x,y", {}, "", "pkg:pypi/a@1"),
        ("pypi:a==1#x,y", {}, "y", "pkg:pypi/a@1#y"),
        ("git+https://example.org/r@v1#docs", {"commit": "e" * 40}, "", f"git+https://example.org/r@{'e' * 40}#docs"),
        ("hf:org/repo@main#f.gguf", {}, "", "pkg:huggingface/org/repo@main#f.gguf"),
    ],
)
def test_where_a_source_comes_from(source: str, identity: dict[str, str], file: str, expected: str) -> None:
    assert locator(source, identity, file) == expected
