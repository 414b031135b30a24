"""A TOML file that was read: its data, and on demand the place of each key. Knows nothing of what the keys mean.

Light on purpose: settings are read with it on the way to "nothing to do". Positions are worked out only for an error.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flatpack_build.errors import ManifestError, Place
from flatpack_build.manifest.locate import Positions, locate
from flatpack_build.plain import without_passwords

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_UNQUOTED = re.compile(r"\s*(?P<key>[A-Za-z0-9_.\-\"' ]+?)\s*=\s*(?P<value>[^\"'\[{#\s][^#]*?)\s*(?:#.*)?")
_BIGGEST = 4 << 20


@dataclass(frozen=True)
class Document:
    """``file`` is the name that errors show."""

    file: str
    text: str
    data: dict[str, Any]

    @cached_property
    def positions(self) -> Positions:
        return locate(self.text)

    def key_place(self, path: Sequence[str | int]) -> Place:
        """Where the last key of ``path`` is written, or the nearest parent that is."""
        return Place(self.file, *self.positions.key(path))

    def value_place(self, path: Sequence[str | int]) -> Place:
        """Where the value at ``path`` begins, or the nearest parent."""
        return Place(self.file, *self.positions.value(path))


def parse_document(text: str, file: str) -> Document:
    """Parse TOML. Raises ``ManifestError`` with the place of a syntax error."""
    text = text.removeprefix("\ufeff")  # some editors put a byte order mark there, and nobody sees it
    try:
        return Document(file, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), text, file) from error
    except RecursionError as error:
        raise ManifestError("lists or tables are nested too deeply", place=Place(file)) from error
    except ValueError as error:  # a number with thousands of digits
        raise ManifestError(f"a value cannot be read: {error}", place=Place(file)) from error


def read_document(path: Path, *, what: str = "file") -> Document:
    """Read and parse a TOML file; ``what`` names its kind in errors. Raises ``ManifestError``."""
    file = str(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(_BIGGEST + 1)
    except FileNotFoundError as error:
        raise ManifestError(f"there is no such {what}", place=Place(file)) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ManifestError(f"this {what} cannot be read: {reason}", place=Place(file)) from error
    if len(data) > _BIGGEST:
        raise ManifestError(f"this {what} is larger than {_BIGGEST >> 20} MiB", place=Place(file))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        good = data[: error.start].decode()
        place = Place(file, good.count("\n") + 1, len(good) - good.rfind("\n"))
        raise ManifestError(
            f"byte 0x{data[error.start]:02x} is not UTF-8 text", place=place, hint="save the file as UTF-8"
        ) from error
    return parse_document(text, file)


def _syntax_error(message: str, text: str, file: str) -> ManifestError:
    lines = text.split("\n")
    match = _AT.search(message)
    if match and match[1]:
        line, column = int(match[1]), int(match[2])
    else:
        written = text.rstrip()
        line, column = written.count("\n") + 1, len(written) - written.rfind("\n")
    reason = message[: match.start()] if match else message
    hint = _syntax_hint(reason, lines[line - 1] if line <= len(lines) else "")
    return ManifestError(
        f"not valid TOML: {reason[:1].lower()}{reason[1:]}", place=Place(file, line, column), hint=hint
    )


def _syntax_hint(reason: str, line: str) -> str:
    pair = _UNQUOTED.fullmatch(line) if len(line) < 300 else None
    if pair and ("Invalid value" in reason or "Expected newline" in reason):
        key, value = pair["key"], pair["value"]
        if value.lower() in ("true", "false"):
            return f"true and false are written in small letters: {key} = {value.lower()}"
        return f'a text stands in quotes: {key} = "{without_passwords(value)}"'
    if "Illegal character" in reason and "\\n" in reason:
        return "a quote is missing at the end of the line"
    if "Cannot overwrite" in reason or "twice" in reason:
        return "each key and each [table] stands only once in a file; [[double brackets]] make a list of tables"
    if "Expected '='" in reason:
        return 'a line is: key = "value"'
    return ""
