"""The kinds of text and number that manifests and profiles are made of, each checked and each with its JSON schema.

A validator here raises ``ValueError("expected ...")``; ``explain`` adds what was found, where, and an example.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, Strict, WithJsonSchema

from flatpack_build.digest import Digest
from flatpack_build.errors import SourceError
from flatpack_build.manifest.source import parse_source

Text: TypeAlias = Annotated[str, Strict()]
Whole: TypeAlias = Annotated[int, Strict()]
Number: TypeAlias = Annotated[float, Strict(), Field(allow_inf_nan=False)]
PortNumber: TypeAlias = Annotated[int, Strict(), Field(ge=1, le=65535)]

_NAME = r"^[\w-]+$"
_VERSION = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
_HEX = r"^(sha256:)?[0-9a-fA-F]{64}$"


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w-]+", text):
        raise ValueError("expected a name of letters, digits, '-' and '_'")
    return text


def _version(text: str) -> str:
    if not re.fullmatch(_VERSION[1:-1], text):
        raise ValueError("expected a version of letters, digits, '.', '_', '+' and '-'")
    return text


def _sha256(text: str) -> str:
    try:
        return str(Digest.parse(text))
    except ValueError as error:
        raise ValueError("expected a sha256: 64 hexadecimal characters") from error


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a text that is not empty")
    return text


def _inner_path(text: str) -> str:
    """Refuse what could lead out of the flatpack's folder, and bring ``./a//b/`` into the form ``a/b``."""
    if not text or text.startswith(("/", "~")) or "\\" in text or any(ord(letter) < 32 for letter in text):
        raise ValueError("expected a path relative to the flatpack's folder, with '/' between its parts")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise ValueError("expected a path that stays inside the flatpack's folder")
    return "/".join(parts)


def _source(text: str) -> str:
    try:
        parse_source(_filled(text))
    except SourceError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None
    return text


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _command(value: object) -> object:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value):
        return shlex.join(value)
    raise ValueError("expected a text, or a list with the program and its arguments")


Name: TypeAlias = Annotated[
    str, Strict(), AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": _NAME, "minLength": 1})
]
Version: TypeAlias = Annotated[
    str, Strict(), AfterValidator(_version), WithJsonSchema({"type": "string", "pattern": _VERSION})
]
Sha256: TypeAlias = Annotated[
    str, Strict(), AfterValidator(_sha256), WithJsonSchema({"type": "string", "pattern": _HEX})
]
FilledText: TypeAlias = Annotated[
    str, Strict(), AfterValidator(_filled), WithJsonSchema({"type": "string", "minLength": 1})
]
InnerPath: TypeAlias = Annotated[
    str, Strict(), AfterValidator(_inner_path), WithJsonSchema({"type": "string", "minLength": 1})
]
Source: TypeAlias = Annotated[
    str, Strict(), AfterValidator(_source), WithJsonSchema({"type": "string", "minLength": 1})
]
Patterns: TypeAlias = Annotated[
    tuple[InnerPath, ...],
    BeforeValidator(_one_or_many),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ]
        }
    ),
]
"""Paths or glob patterns: ``*`` stays inside a folder, ``**`` crosses folders. A single one needs no list."""
Command: TypeAlias = Annotated[
    str,
    BeforeValidator(_command),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]
"""One line for the shell. A list becomes one line whose words are quoted."""

GgufQuant: TypeAlias = Literal[
    "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_NL", "Q3_K_M", "Q2_K"
]
OnnxQuant: TypeAlias = Literal["int8", "int4"]
Quant: TypeAlias = Literal[
    "auto", "keep",
    "F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_NL", "Q3_K_M", "Q2_K",
    "int8", "int4",
]  # fmt: skip
HashName: TypeAlias = Literal["sha256", "sha384", "sha512"]
ModelFormat: TypeAlias = Literal["gguf", "onnx"]
