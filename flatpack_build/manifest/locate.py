"""Where each key and value of a TOML text stands: line and column. Knows no model and judges nothing.

``tomllib`` forgets positions, so errors found after parsing could not say where they are. This scanner is for texts
that ``tomllib`` has accepted; of any other text it knows the part before the trouble, and never raises.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the top of the file; an ``int`` is an index into a list: ``("file", 0, "from_source")``."""


class Position(NamedTuple):
    """Both count from 1; a column is a count of characters."""

    line: int
    column: int


@dataclass(frozen=True)
class Positions:
    """Answers for every path. One that does not exist stands where its nearest known parent does."""

    keys: Mapping[KeyPath, Position]
    values: Mapping[KeyPath, Position]

    def key(self, path: Sequence[str | int]) -> Position:
        """Where the last key of ``path`` is written. An entry of a list has no key: its value's place."""
        return self._nearest(tuple(path), self.keys, self.values)

    def value(self, path: Sequence[str | int]) -> Position:
        """Where the value begins; for a ``[table]`` that is its header."""
        return self._nearest(tuple(path), self.values, self.keys)

    def _nearest(
        self, path: KeyPath, first: Mapping[KeyPath, Position], second: Mapping[KeyPath, Position]
    ) -> Position:
        while path:
            found = first.get(path) or second.get(path)
            if found:
                return found
            path = path[:-1]
            first, second = self.keys, self.values  # of a parent its name is what a reader looks for
        return Position(1, 1)


def locate(text: str) -> Positions:
    """Scan ``text``. Never raises; takes time in proportion to its length."""
    scanner = _Scanner(text)
    with contextlib.suppress(_SyntaxError, RecursionError):  # what was found so far still helps
        scanner.document()
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def position(offset: int) -> Position:
        line = bisect.bisect_right(starts, offset)
        return Position(line, offset - starts[line - 1] + 1)

    return Positions(
        {path: position(offset) for path, offset in scanner.keys.items()},
        {path: position(offset) for path, offset in scanner.values.items()},
    )


class _SyntaxError(Exception):
    """The text is not TOML from here on."""


_SPACE = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL = re.compile(r"'[^'\n]*'")
# Up to two quotes may stand right before the closing three.
_LONG_BASIC = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''.*?'{3,5}", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\r\n]+")


@dataclass
class _Scanner:
    text: str
    at: int = 0
    keys: dict[KeyPath, int] = field(default_factory=dict)
    values: dict[KeyPath, int] = field(default_factory=dict)
    last_index: dict[KeyPath, int] = field(default_factory=dict)
    """For each list of tables the index of its latest entry: a header names that one."""

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self.take(_GAP)
            if self.at >= len(self.text):
                return
            if self.text.startswith("[", self.at):
                table = self.header()
            else:
                self.pair(table)

    def header(self) -> KeyPath:
        start = self.at
        of_list = self.text.startswith("[[", start)
        self.at += 2 if of_list else 1
        path: KeyPath = ()
        parts = self.dotted_key()
        for part, offset in parts[:-1]:
            path = (*path, part)
            self.keys.setdefault(path, offset)
            self.values.setdefault(path, start)
            if path in self.last_index:
                path = (*path, self.last_index[path])
        name, offset = parts[-1]
        path = (*path, name)
        if of_list:
            self.keys.setdefault(path, offset)
            self.values.setdefault(path, start)
            self.last_index[path] = index = self.last_index.get(path, -1) + 1
            path = (*path, index)
        # The table's own header is a better place than a header that only passed through it.
        self.keys[path] = offset
        self.values[path] = start
        self.expect("]]" if of_list else "]")
        return path

    def pair(self, table: KeyPath) -> None:
        parts = self.dotted_key()
        path = table
        for part, offset in parts:
            path = (*path, part)
            self.keys.setdefault(path, offset)
            self.values.setdefault(path, offset)
        self.expect("=")
        self.take(_SPACE)
        self.value(path)

    def value(self, path: KeyPath) -> None:
        start = self.at
        self.values[path] = start
        if self.text.startswith("[", start):
            self.at += 1
            index = 0
            while not self.at_end_of("]"):
                self.value((*path, index))
                index += 1
                self.separator("]")
        elif self.text.startswith("{", start):
            self.at += 1
            while not self.at_end_of("}"):
                self.pair(path)
                self.separator("}")
        elif not (self.take(_LONG_BASIC) or self.take(_LONG_LITERAL) or self.take(_BASIC) or self.take(_LITERAL)):
            if self.text.startswith(('"', "'"), start):
                raise _SyntaxError
            self.must_take(_SCALAR)

    def at_end_of(self, bracket: str) -> bool:
        self.take(_GAP)
        if self.text.startswith(bracket, self.at):
            self.at += 1
            return True
        return False

    def separator(self, bracket: str) -> None:
        self.take(_GAP)
        if not self.text.startswith(bracket, self.at):
            self.expect(",")

    def dotted_key(self) -> list[tuple[str, int]]:
        parts = []
        while True:
            self.take(_SPACE)
            offset = self.at
            if self.text.startswith(('"', "'"), offset):
                quoted = self.take(_BASIC) or self.must_take(_LITERAL)
                parts.append((_unquote(quoted), offset))
            else:
                parts.append((self.must_take(_BARE_KEY), offset))
            self.take(_SPACE)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if not match:
            return ""
        self.at = match.end()
        return match.group()

    def must_take(self, pattern: re.Pattern[str]) -> str:
        taken = self.take(pattern)
        if not taken:
            raise _SyntaxError
        return taken

    def expect(self, what: str) -> None:
        self.take(_SPACE)
        if not self.text.startswith(what, self.at):
            raise _SyntaxError
        self.at += len(what)


def _unquote(quoted: str) -> str:
    if "\\" not in quoted or quoted.startswith("'"):
        return quoted[1:-1]
    try:
        value = tomllib.loads(f"key = {quoted}")["key"]
    except tomllib.TOMLDecodeError as error:
        raise _SyntaxError from error
    return str(value)
