"""How values, keys and suggestions are put into words in error messages. Knows no file and no model."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Mapping

from flatpack_build.plain import without_passwords

_LONGEST = 60
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def describe(value: object) -> str:
    """Say what a value is: ``the whole number 3``, ``the text "abc"``, ``a table``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"the whole number {_short(str(value)) if abs(value) < 10**_LONGEST else 'of many digits'}"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, str):
        return (
            f"the text {_short(json.dumps(without_passwords(value), ensure_ascii=False))}" if value else "an empty text"
        )
    if isinstance(value, list | tuple):
        if value and all(isinstance(entry, Mapping) for entry in value):
            return "a list of tables"
        return "a list" if value else "an empty list"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, datetime.date | datetime.time):
        return f"the date or time {value}"
    return f"a {type(value).__name__}"


def dotted(path: Iterable[str | int]) -> str:
    """A path as a person writes it in TOML; indexes are left out: ``file.from_source``."""
    return ".".join(key_text(part) for part in path if isinstance(part, str))


def key_text(key: str) -> str:
    """A key, in quotes where TOML needs them."""
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def toml_text(value: object) -> str:
    """A value on one line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_text(entry) for entry in value)}]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key_text(key)} = {toml_text(entry)}" for key, entry in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return str(value)


def example_text(path: tuple[str | int, ...], value: object) -> str:
    """Example lines for the key at ``path``: ``quant = "auto"``, or a table with its header on lines of their own."""
    if isinstance(value, Mapping):
        return _indented([f"[{dotted(path)}]", *_pairs(value)])
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return _indented([f"[[{dotted(path)}]]", *_pairs(value[0])])
    if path and isinstance(path[-1], str):
        return f"{key_text(path[-1])} = {toml_text(value)}"
    return toml_text(value)


def closest(word: str, options: Iterable[str]) -> str:
    """The option that was probably meant, or ``""``. Case does not count."""
    import difflib  # only where something is wrong already

    by_folded = {option.casefold(): option for option in options}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else ""


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """``; did you mean 'quant'?`` or ``""``: to be put at the end of a message."""
    found = closest(word, options)
    return f"; did you mean {found!r}?" if found else ""


def _pairs(table: Mapping[str, object]) -> list[str]:
    return [f"{key_text(key)} = {toml_text(value)}" for key, value in table.items()]


def _indented(lines: list[str]) -> str:
    return "".join(f"\n    {line}" for line in lines)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
