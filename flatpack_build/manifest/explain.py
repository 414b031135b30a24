"""pydantic's errors about a document, in a person's words: what is wrong, where, what was expected, an example.

Knows how to walk any model made of ``Table``; knows no particular key.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flatpack_build.errors import ManifestError, Place
from flatpack_build.manifest.document import Document
from flatpack_build.manifest.locate import KeyPath
from flatpack_build.manifest.wording import closest, describe, did_you_mean, dotted, example_text

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "mapping_type": "a table",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "too_short": "at least one entry",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a file."""

    place: Place
    message: str
    hint: str = ""


def problems(
    error: ValidationError, kind: type[BaseModel], document: Document, *, below: KeyPath = ()
) -> list[Problem]:
    """Everything ``error`` says about ``document``, in the order of the file.

    ``kind`` is the model that was validated. ``below`` is where in the document the fault must be: for the merged
    manifest of a target that is the target's table.
    """
    details = error.errors(include_url=False)
    found = [_Explainer(kind, document, below, detail).problem() for detail in details if not _follows(detail, details)]
    return sorted(found, key=lambda item: (item.place.line, item.place.column))


def as_error(found: Sequence[Problem]) -> ManifestError:
    """One error for at least one problem: the first gives the place, the others are listed in the message."""
    first, *others = dict.fromkeys(found)
    lines = [first.message]
    if others:
        lines.append(f"  and {len(others)} more:")
        lines += [f"  {item.place}: {item.message}{f' ({item.hint})' if item.hint else ''}" for item in others]
    return ManifestError("\n".join(lines), place=first.place, hint=first.hint)


def _follows(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """Whether an error only follows from another: of a misspelt key the right spelling is missing, and a list whose
    only entry is wrong counts as empty."""
    loc = detail["loc"]
    if detail["type"] == "missing":
        return any(
            other["type"] == "extra_forbidden"
            and other["loc"][:-1] == loc[:-1]
            and closest(str(other["loc"][-1]), [str(loc[-1])])
            for other in details
        )
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in details
    )


class _Explainer:
    def __init__(self, root: type[BaseModel], document: Document, below: KeyPath, detail: ErrorDetails) -> None:
        self.root = root
        self.document = document
        self.below = below
        self.detail = detail
        self.path: KeyPath = tuple(part for part in detail["loc"] if part != "[key]")
        self.about_key = "[key]" in detail["loc"]

    def problem(self) -> Problem:
        kind = self.detail["type"]
        if kind == "missing":
            return self.missing()
        if kind == "extra_forbidden":
            return self.unknown()
        if kind == "flatpack":
            context = self.detail["ctx"]
            path = (*self.below, *self.path, *context["at"])
            return Problem(self.document.value_place(path), context["message"], context["hint"])
        place = self.document.key_place if self.about_key else self.document.value_place
        return Problem(place((*self.below, *self.path)), self.expected())

    def missing(self) -> Problem:
        *table, key = self.path
        place = self.document.key_place((*self.below, *table))
        if _is_table(_annotation(self.root, self.path)):
            message = f"missing [{dotted((*self.below, *self.path))}]"
        else:
            message = f"missing key {key!r}{self.inside(tuple(table))}"
        hint = f"there is no [{dotted(table)}] for all targets, so this one must be complete" if self.below else ""
        return Problem(place, message + self.example(self.path), hint)

    def unknown(self) -> Problem:
        *table, last = self.path
        key = str(last)
        where = self.inside(tuple(table))
        known = _keys(_annotation(self.root, table))
        top = _keys(self.root)
        value = self.detail["input"]
        message = f"unknown {'table' if isinstance(value, Mapping) else 'key'} {key!r}{where}"
        if "target" in top and table[:1] == ["target"] and len(table) == 2 and key in top:
            return self.at_key(f"{key!r} cannot differ between targets", f"set {key} at the top of the file")
        homes = [name for name in top if key in _keys(_annotation(self.root, [name]))] if not table else []
        if homes and not isinstance(value, Mapping):
            return self.at_key(message, f"{key!r} belongs in [{homes[0]}]")
        guess = did_you_mean(key, known)
        if guess:
            return self.at_key(message + guess)
        if table and key in top:
            return self.at_key(message, f"{key!r} stands at the top of the file, above the first [table]")
        listed = ", ".join(known)
        return self.at_key(message, f"known there: {listed}" if listed else "")

    def at_key(self, message: str, hint: str = "") -> Problem:
        return Problem(self.document.key_place((*self.below, *self.path)), message, hint)

    def expected(self) -> str:
        kind, value, context = self.detail["type"], self.detail["input"], self.detail.get("ctx", {})
        guess = ""
        if kind in _EXPECTED:
            message = f"expected {_EXPECTED[kind]}"
            if kind == "tuple_type" and _is_table(_element(_annotation(self.root, self.path))):
                message = "expected a list of tables"
        elif kind == "literal_error":
            options = [str(option) for option in get_args(_bare(_annotation(self.root, self.path)))]
            message = f"expected one of {', '.join(options)}"
            guess = did_you_mean(value, options) if isinstance(value, str) else ""
        elif kind == "greater_than_equal":
            message = f"expected at least {context['ge']}"
        elif kind == "less_than_equal":
            message = f"expected at most {context['le']}"
        elif kind == "value_error":
            message = str(context["error"])
        else:
            message = self.detail["msg"][:1].lower() + self.detail["msg"][1:]
        return f"{message}, got {describe(value)}{guess or self.example(self.path)}"

    def example(self, path: KeyPath) -> str:
        while path and isinstance(path[-1], int):
            path = path[:-1]
        value = _example(self.root, path)
        if value is None or self.about_key:
            return ""
        text = example_text(path, value)
        return f"; for example:{text}" if text.startswith("\n") else f"; for example: {text}"

    def inside(self, table: KeyPath) -> str:
        path = (*self.below, *table)
        if not path:
            return ""
        return f" in [[{dotted(path)}]]" if isinstance(path[-1], int) else f" in [{dotted(path)}]"


def _bare(kind: Any) -> Any:
    """``kind`` without ``Annotated`` and ``| None``."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, types.UnionType):
            some = [option for option in get_args(kind) if option is not type(None)]
            if len(some) != 1:
                return kind
            kind = some[0]
        else:
            return kind


def _element(kind: Any) -> Any:
    """What a list or a table of any names holds."""
    kind = _bare(kind)
    if get_origin(kind) is tuple:
        return _bare(get_args(kind)[0])
    if get_origin(kind) is Mapping:
        return _bare(get_args(kind)[1])
    return None


def _is_table(kind: Any) -> bool:
    kind = _bare(kind)
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys(kind: Any) -> list[str]:
    return list(_bare(kind).model_fields) if _is_table(kind) else []


def _annotation(kind: Any, path: Sequence[str | int]) -> Any:
    """The type of what is at ``path`` below ``kind``; ``None`` where the models know nothing of it."""
    for part in path:
        if _is_table(kind):
            field = _bare(kind).model_fields.get(part)
            kind = field.annotation if field else None
        else:
            kind = _element(kind)
    return _bare(kind)


def _example(kind: Any, path: Sequence[str | int]) -> Any:
    """The example for what is at ``path``: its field's own, or the part of a parent's example that is for it."""
    example: Any = None
    for part in path:
        if _is_table(kind):
            field = _bare(kind).model_fields.get(part)
            if field is None:
                return None
            own = field.examples[0] if field.examples else None
            example = own if own is not None else example.get(part) if isinstance(example, Mapping) else None
            kind = field.annotation
        else:
            kind = _element(kind)
            if isinstance(example, Mapping):
                example = next(iter(example.values()), None)
            elif isinstance(example, list | tuple):
                example = example[0] if example else None
    return example
