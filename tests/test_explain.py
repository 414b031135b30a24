"""Comparing two walks, two trees and two texts."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from flatpack_build.digest import Digest, Json
from flatpack_build.explain import SMALL_TEXT, Change, compare, text_diff, tree_changes
from flatpack_build.fingerprint import InputDigest, action_key, walk
from flatpack_build.params import CompressParams, DeviceParams, PackParams, Params
from flatpack_build.tree import Tree, TreeEntry


def parts(params: Params, *, version: str = "1", **inputs: str) -> list[tuple[str, object]]:
    digests = {name: InputDigest("file", Digest.of_bytes(text.encode()), len(text)) for name, text in inputs.items()}
    return json.loads(json.dumps(list(walk(params, digests, dict.fromkeys(params.tools, version)))))  # type: ignore[no-any-return]  # as it comes back from the cache


def changes(old: list[tuple[str, object]], new: list[tuple[str, object]]) -> tuple[Change, ...]:
    return compare(old, new)  # type: ignore[arg-type]  # lists in place of pairs


def test_the_same_walk_has_no_changes() -> None:
    assert changes(parts(CompressParams("Q4_0"), model="a"), parts(CompressParams("Q4_0"), model="a")) == ()


def test_what_was_tuples_before_it_went_through_json_is_the_same() -> None:
    params = PackParams("x", "1", "pi5", {"a": "b"}, "{}")
    assert compare(list(walk(params, {}, dict.fromkeys(params.tools, "1"))), parts(params)) == ()  # type: ignore[arg-type]


def test_a_parameter_a_tool_and_an_input_are_named_with_both_values() -> None:
    old = parts(CompressParams("Q4_0"), model="a")
    (quant,) = changes(old, parts(CompressParams("Q5_K_M"), model="a"))
    assert (quant.part, quant.before, quant.after) == ("parameter quant", "Q4_0", "Q5_K_M")
    (tool,) = changes(old, parts(CompressParams("Q4_0"), version="2", model="a"))
    assert (tool.part, tool.before, tool.after) == ("tool llama-cpp-python", "1", "2")
    (model,) = changes(old, parts(CompressParams("Q4_0"), model="b"))
    assert model.part == "input model"
    assert model.after == f"file:{Digest.of_bytes(b'b')}"


def test_inputs_come_and_go_and_unknown_ones_are_left_out() -> None:
    found = changes(parts(CompressParams("Q4_0"), model="a"), parts(CompressParams("Q4_0"), other="a"))
    assert [(change.part, change.how) for change in found] == [("input other", "added"), ("input model", "removed")]
    assert compare(parts(CompressParams("Q4_0"), model="a"), parts(CompressParams("Q4_0")), unknown={"model"}) == ()  # type: ignore[arg-type]


def test_inside_a_table_only_what_differs_is_named() -> None:
    old = PackParams(
        "x", "1", "pi5", {"a": "1", "b": "2"}, json.dumps({"model": {"quant": "keep"}, "tags": ["x", "y"]})
    )
    new = PackParams(
        "x", "1", "pi5", {"a": "1", "c": "3"}, json.dumps({"model": {"quant": "Q4_0"}, "tags": ["y", "z"]})
    )
    manifest, places = changes(parts(old), parts(new))
    assert [(value.path, value.how, value.before, value.after) for value in manifest.values] == [
        ("model.quant", "changed", "keep", "Q4_0"),
        ("tags", "removed", "x", None),
        ("tags", "added", None, "z"),
    ]
    assert [(value.path, value.how) for value in places.values] == [("b", "removed"), ("c", "added")]


def test_of_a_list_of_tables_the_one_that_was_edited_is_looked_into() -> None:
    steps: Json = [{"step": "compress", "parameters": {"quant": "Q4_0"}}, {"step": "pack"}]
    edited: Json = [{"step": "compress", "parameters": {"quant": "Q8_0"}}, {"step": "pack"}]
    (change,) = compare([("parameter steps", steps)], [("parameter steps", edited)])
    assert [(value.path, value.before, value.after) for value in change.values] == [
        ("[0].parameters.quant", "Q4_0", "Q8_0")
    ]


@given(
    st.builds(DeviceParams, st.text(), st.text(), st.text(), st.integers(), st.integers(), st.text(), st.text()),
    st.builds(DeviceParams, st.text(), st.text(), st.text(), st.integers(), st.integers(), st.text(), st.text()),
)
def test_there_are_changes_exactly_where_the_keys_differ(first: DeviceParams, second: DeviceParams) -> None:
    one, two = (list(walk(params, {}, {"jinja2": "1"})) for params in (first, second))
    assert bool(compare(one, two)) == (action_key(one) != action_key(two))


def entry(path: str, text: str, kind: str = "file") -> TreeEntry:
    return TreeEntry(path, kind, len(text), Digest.of_bytes(text.encode()))  # type: ignore[arg-type]


def test_files_that_came_went_changed_and_became_executable() -> None:
    old = Tree.of([entry("a", "1"), entry("b", "1"), entry("c", "1"), entry("d", "1")])
    new = Tree.of([entry("b", "2"), entry("c", "1", "exec"), entry("d", "1"), entry("e", "3")])
    found = [(file.path, file.how) for file in tree_changes(old, new)]
    assert found == [("a", "removed"), ("b", "changed"), ("c", "changed"), ("e", "added")]


def test_a_file_of_the_same_bytes_under_another_name_was_renamed() -> None:
    old = Tree.of([entry("a", "1"), entry("b", "1"), entry("empty", ""), entry("z", "2")])
    new = Tree.of([entry("blank", ""), entry("c", "1", "exec"), entry("z", "3")])
    found = {file.path: (file.how, file.before and file.before.path) for file in tree_changes(old, new)}
    assert found == {
        "b": ("removed", "b"),
        "blank": ("added", None),
        "c": ("renamed", "a"),
        "empty": ("removed", "empty"),
        "z": ("changed", "z"),
    }


def test_a_diff_says_which_lines_and_shows_a_missing_newline() -> None:
    assert text_diff(b"a\nb\n", b"a\nc\n")[1:] == (" a", "-b", "+c")
    assert text_diff(b"a\n", b"a")[1:] == ("-a", "+a  (no newline at the end)")
    assert text_diff(b"a\r\n", b"a\n")[1:] == ("-a\N{SYMBOL FOR CARRIAGE RETURN}", "+a")


def test_control_characters_of_a_document_do_not_reach_the_terminal() -> None:
    lines = "".join(text_diff(b"", "\x1b]0;title\x07 \x9b31m\ttab\n".encode()))
    assert "tab" in lines
    assert not any(character in lines for character in "\x1b\x07\x9b")


def test_binary_and_large_files_have_no_diff() -> None:
    assert text_diff(b"\0a", b"b") == ()
    assert text_diff(b"\xff", b"b") == ()
    assert text_diff(b"a" * (SMALL_TEXT + 1), b"b") == ()
