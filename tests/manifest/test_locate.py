from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.manifest.locate import KeyPath, Position, locate

QUICK = settings(max_examples=150, deadline=None, database=None)

TEXT = """\
version = "1"            # a comment with = and [brackets]
a.b . "c d" = { x = 1, y.z = [10,
  20] }
[[file]]
name = '''
[not.a.table]
'''
[[file]]
name = "two"
[file.more]
deep = 1979-05-27 07:32:00
[t."qu\\u006Fted"]
é = 1
"""


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("version",), (1, 1), (1, 11)),
        (("a",), (2, 1), (2, 1)),
        (("a", "b", "c d"), (2, 7), (2, 15)),
        (("a", "b", "c d", "x"), (2, 17), (2, 21)),
        (("a", "b", "c d", "y", "z", 1), (3, 3), (3, 3)),
        (("file",), (4, 3), (4, 1)),
        (("file", 0, "name"), (5, 1), (5, 8)),
        (("file", 1), (8, 3), (8, 1)),
        (("file", 1, "name"), (9, 1), (9, 8)),
        (("file", 1, "more", "deep"), (11, 1), (11, 8)),
        (("t",), (12, 2), (12, 1)),
        (("t", "quoted"), (12, 4), (12, 1)),
    ],
)
def test_every_kind_of_key_is_found(path: KeyPath, key: tuple[int, int], value: tuple[int, int]) -> None:
    positions = locate(TEXT.replace("é = 1\n", ""))
    assert positions.key(path) == key
    assert positions.value(path) == value


def test_a_path_that_does_not_exist_stands_at_its_nearest_parent() -> None:
    positions = locate(TEXT)
    assert positions.key(("file", 1, "missing", "deeper")) == (8, 3)
    assert positions.value(("file", 1, "missing")) == (8, 3)
    assert positions.key(("nothing",)) == (1, 1)
    assert positions.key(()) == (1, 1)


def test_what_stands_before_an_error_is_known() -> None:
    positions = locate('good = 1\nbad = "open\nlost = 2\n')
    assert positions.key(("good",)) == (1, 1)
    assert positions.key(("lost",)) == (1, 1)
    assert ("lost",) not in positions.keys


def test_a_table_stands_at_its_own_header_not_at_one_that_passes_through_it() -> None:
    positions = locate("[a.b]\n[c]\n[a]\n")
    assert positions.key(("a",)) == (3, 2)


@given(st.text(alphabet="[]{}=\"'.,#\n\r\t a1_-\\é"))
@QUICK
def test_it_never_raises(text: str) -> None:
    locate(text)


def test_deep_nesting_is_no_crash() -> None:
    assert locate(f"x = {'[' * 50_000}\n").key(("x",)) == (1, 1)


# A writer of TOML that notes down where it puts each key and value.

_KEYS = st.text(st.sampled_from("abZ09_-. \"'#[]=é\\\n"), max_size=5)
_TEXTS = st.text(st.sampled_from("ab \"'#[]{}=,é\\\n\t𝄞"), max_size=8)
_SCALARS = st.one_of(
    _TEXTS, st.integers(-(10**6), 10**6), st.booleans(), st.sampled_from(["\0date", "\0time", "\0float"])
)
_INLINE = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)


class _Table(dict[str, Any]):
    """To be written with a header."""


class _Tables(list[_Table]):
    """To be written with double-bracket headers."""


_TABLES = st.recursive(
    st.dictionaries(_KEYS, _INLINE, max_size=3).map(_Table),
    lambda inner: st.dictionaries(
        _KEYS, _INLINE | inner | st.lists(inner, min_size=1, max_size=3).map(_Tables), max_size=4
    ).map(_Table),
    max_leaves=6,
)


class _Writer:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.keys: dict[KeyPath, int] = {}
        self.values: dict[KeyPath, int] = {}

    def pick(self, *options: str) -> str:
        return self.draw(st.sampled_from(options))

    def quoted(self, text: str) -> str:
        options = [json.dumps(text, ensure_ascii=False)]
        if "'" not in text and "\n" not in text:
            options.append(f"'{text}'")
        return self.pick(*options)

    def key(self, key: str) -> str:
        return self.pick(self.quoted(key), key) if re.fullmatch(r"[A-Za-z0-9_-]+", key) else self.quoted(key)

    def string(self, text: str) -> str:
        options = [self.quoted(text)]
        escaped = text.replace("\\", "\\\\").replace('"""', '""\\"')
        options.append(f'"""\n{escaped}"""')  # one or two quotes may stand before the closing three
        if "'''" not in text and "\r" not in text:
            options.append(f"'''\n{text}'''")
        return self.pick(*options)

    def space(self) -> None:
        self.text += self.pick("", " ", "\t")

    def gap(self) -> None:
        self.text += self.pick("", " ", "\n", " # ] } ,\n\n", "\r\n")

    def value(self, path: KeyPath, value: Any) -> None:
        self.values[path] = len(self.text)
        if value in ("\0date", "\0time", "\0float"):
            self.text += {"\0date": "1979-05-27 07:32:00Z", "\0time": "07:32:00.5", "\0float": "-1.5e3"}[value]
        elif isinstance(value, str):
            self.text += self.string(value)
        elif isinstance(value, list):
            self.text += "["
            for index, entry in enumerate(value):
                self.gap()
                self.value((*path, index), entry)
                self.gap()
                self.text += "," if index + 1 < len(value) else self.pick("", ",")
            self.gap()
            self.text += "]"
        elif isinstance(value, dict):
            self.text += "{"
            for index, (key, entry) in enumerate(value.items()):
                self.text += "," if index else ""
                self.pair(path, key, entry)
            self.space()
            self.text += "}"
        else:
            self.text += json.dumps(value)

    def pair(self, table: KeyPath, key: str, value: Any) -> None:
        path = (*table, key)
        self.space()
        self.keys[path] = len(self.text)
        self.text += self.key(key)
        while isinstance(value, dict) and len(value) == 1 and self.draw(st.booleans()):
            self.values[path] = self.keys[path]
            self.space()
            self.text += "."
            self.space()
            ((key, value),) = value.items()
            path = (*path, key)
            self.keys[path] = len(self.text)
            self.text += self.key(key)
        self.space()
        self.text += "="
        self.space()
        self.value(path, value)

    def header(self, path: KeyPath, *, of_list: bool) -> None:
        self.gap()
        self.text += "" if not self.text or self.text.endswith("\n") else "\n"
        self.space()
        start = len(self.text)
        self.text += "[[" if of_list else "["
        for index, part in enumerate(part for part in path if isinstance(part, str)):
            self.text += "." if index else ""
            self.space()
            offset = len(self.text)
            self.text += self.key(part)
            self.space()
        self.text += "]]" if of_list else "]"
        self.keys[path], self.values[path] = offset, start
        if of_list and path[-1] == 0:
            self.keys[path[:-1]], self.values[path[:-1]] = offset, start

    def table(self, path: KeyPath, table: _Table) -> None:
        later = {key: value for key, value in table.items() if isinstance(value, _Table | _Tables)}
        for key, value in table.items():
            if key not in later:
                self.text += "" if not self.text or self.text.endswith("\n") else "\n"
                self.pair(path, key, value)
                self.text += self.pick("", " ", " # x = 1", "\r", "\n\n")
                self.text += "\n"
        for key, value in later.items():
            entries = enumerate(value) if isinstance(value, _Tables) else [(None, value)]
            for index, entry in entries:
                inner = (*path, key) if index is None else (*path, key, index)
                self.header(inner, of_list=index is not None)
                self.text += "\n"
                self.table(inner, entry)


def _paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    found = {path}
    if isinstance(value, dict):
        found = found.union(*(_paths(entry, (*path, key)) for key, entry in value.items()))
    elif isinstance(value, list):
        found = found.union(*(_paths(entry, (*path, index)) for index, entry in enumerate(value)))
    return found


@st.composite
def _documents(draw: st.DrawFn) -> _Writer:
    writer = _Writer(draw)
    writer.table((), draw(_TABLES))
    return writer


@given(_documents())
@QUICK
def test_every_key_stands_where_it_was_written(written: _Writer) -> None:
    data = tomllib.loads(written.text)
    positions = locate(written.text)

    def position(offset: int) -> Position:
        before = written.text[:offset]
        return Position(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)

    assert {path: positions.key(path) for path in written.keys} == {
        path: position(offset) for path, offset in written.keys.items()
    }
    assert {path: positions.value(path) for path in written.values} == {
        path: position(offset) for path, offset in written.values.items()
    }
    assert set(positions.values) | {()} == _paths(data)
