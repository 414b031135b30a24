"""What a document is once it has been read: sections of blocks under headings. Knows no file format, chunk or index."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["heading", "text", "item", "code", "row"]
Unit: TypeAlias = Literal["line", "page"]

# Ligatures that typesetting programs put into PDFs; nobody types them in a question.
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_INVISIBLE = dict.fromkeys((0x00AD, 0x200B, 0x2060, 0xFEFF))  # soft hyphen, zero-width space, word joiner, BOM
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, a paragraph, a list item, a code block or a table row, and where it stands.

    ``first`` and ``last`` count from 1, in the document's unit. ``level`` is 1 to 6 for a heading, else 0.
    Text is on one line, but for code, which keeps its own.
    """

    kind: Kind
    text: str
    first: int
    last: int
    level: int = 0


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks (none of them headings) below one heading. ``heading`` is its path, outermost first; empty: before any."""

    heading: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """``path`` is relative to the document folder, with ``/``. Blocks count pages (PDF) or lines (the rest)."""

    path: str
    unit: Unit
    sections: tuple[Section, ...]


def tidy(text: str) -> str:
    """One line, single spaces, composed characters, no invisible ones."""
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text).translate(_LIGATURES).translate(_INVISIBLE)).strip()


def tidy_code(text: str) -> str:
    """Code as it stands, without empty lines around it, trailing spaces or invisible characters."""
    plain = unicodedata.normalize("NFC", text).translate(_INVISIBLE)
    return "\n".join(line.rstrip() for line in plain.expandtabs(4).split("\n")).strip("\n")


def sections_of(blocks: Iterable[Block]) -> tuple[Section, ...]:
    """Group blocks by the headings above them.

    A heading without a body is kept as text of its own, unless a deeper one follows and carries it in its path.
    """
    sections: list[Section] = []
    path: list[Block] = []
    body: list[Block] = []

    def close(next_level: int) -> None:
        if body:
            sections.append(Section(tuple(heading.text for heading in path), tuple(body)))
        elif path and next_level <= path[-1].level:
            last = path[-1]
            above = tuple(heading.text for heading in path[:-1])
            sections.append(Section(above, (Block("text", last.text, last.first, last.last),)))
        body.clear()

    for block in blocks:
        if block.kind != "heading":
            body.append(block)
            continue
        close(block.level)
        while path and path[-1].level >= block.level:
            path.pop()
        path.append(block)
    close(0)
    return tuple(sections)
