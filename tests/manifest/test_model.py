from __future__ import annotations

import json
import pickle
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from flatpack_build.errors import ManifestError
from flatpack_build.manifest.load import load_manifest, parse_manifest
from flatpack_build.manifest.model import Manifest
from flatpack_build.manifest.profile import Profile
from flatpack_build.manifest.tables import Model, Table
from flatpack_build.manifest.wording import toml_text

DATA = Path(__file__).parent / "data"


def test_a_manifest_is_frozen_and_survives_pickling() -> None:
    manifest = load_manifest(DATA / "full.toml")
    with pytest.raises(ValidationError, match="frozen"):
        manifest.version = "2"
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_resolved_says_only_what_differs_from_the_defaults() -> None:
    spare = parse_manifest('version = "1"\nenvironment.model_name = "a"\nmodel.source = "m"\n', "f")
    wordy = parse_manifest(
        'version = "1"\nlicense = ""\ntargets = []\npackages.unix = {}\n[environment]\nmodel_name = "a"\n'
        '[model]\nsource = "m"\nquant = "auto"\n',
        "f",
    )
    assert spare.resolved() == {"version": "1", "environment": {"model_name": "a"}, "model": {"source": "m"}}
    assert wordy.resolved() == spare.resolved()


@pytest.mark.parametrize("file", sorted(DATA.glob("*.toml")), ids=lambda path: str(path.stem))
def test_what_is_resolved_is_plain_json_and_means_the_same(file: Path) -> None:
    manifest = load_manifest(file)
    for target in manifest.build_targets:
        one = manifest.for_target(target)
        again = Manifest.model_validate(json.loads(json.dumps(one.resolved())))
        assert again == one
        assert one.for_target(target) == one


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("a/b.gguf", "gguf"),
        ("https://example.org/b.GGUF?download=true", "gguf"),
        ("hf:org/repo@main#sub/b.onnx", "onnx"),
        ("git+https://example.org/r.gguf.git@main#model", None),
    ],
)
def test_the_suffix_says_what_a_model_is(source: str, form: str | None) -> None:
    assert Model(source=source).file_format == form


def _tables(kind: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if kind not in seen:
        seen.add(kind)
        for info in kind.model_fields.values():
            todo: list[Any] = [info.annotation]
            while todo:
                part = todo.pop()
                if isinstance(part, type) and issubclass(part, BaseModel):
                    _tables(part, seen)
                todo += getattr(part, "__args__", ())
    return seen


@pytest.mark.parametrize("root", [Manifest, Profile])
def test_every_key_has_a_description_and_an_example_that_is_valid(root: type[Table]) -> None:
    tables = _tables(root, set())
    assert len(tables) > 15 or root is Profile
    for table in tables:
        for name, info in table.model_fields.items():
            assert info.description, f"{table.__name__}.{name}"
            assert info.examples, f"{table.__name__}.{name}"
            for example in info.examples:
                written = tomllib.loads(f"{name} = {toml_text(example)}")
                try:
                    table.model_validate(written)
                except ValidationError as error:
                    assert not [item for item in error.errors() if item["loc"][:1] == (name,)]


_JUNK = st.recursive(
    st.one_of(st.text(max_size=5), st.integers(), st.floats(), st.booleans(), st.dates()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=5,
)


def _spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, entry in entries for spot in _spots(entry, (*path, key)))][not path :]


FULL = tomllib.loads((DATA / "full.toml").read_text()) | {
    key: value for key, value in tomllib.loads((DATA / "newer.toml").read_text()).items() if key not in ("environment",)
}
FULL["targets"] = ["laptop", "pi5", "jetson-orin-nano"]


@given(st.data())
@settings(max_examples=150, deadline=None, database=None)
def test_junk_anywhere_is_accepted_or_refused_with_a_place(data: st.DataObject) -> None:
    whole = json.loads(json.dumps(FULL))
    *parents, key = data.draw(st.sampled_from(_spots(whole)))
    table = whole
    for parent in parents:
        table = table[parent]
    table[key] = data.draw(_JUNK)
    if isinstance(table, dict) and data.draw(st.booleans()):
        table[data.draw(st.text(max_size=4))] = data.draw(_JUNK)
    text = "".join(f"{toml_text(str(key))} = {toml_text(value)}\n" for key, value in whole.items())
    text = text.replace("\x7f", "")
    try:
        parse_manifest(text, "flatpack.toml")
    except ManifestError as error:
        assert error.place is not None
        assert 1 <= error.place.line <= text.count("\n") + 1
        assert error.place.column >= 1
        assert error.message


def test_the_full_example_is_valid_before_junk_is_put_in() -> None:
    Manifest.model_validate(FULL)
