"""Documents to chunks: a few sentences each, below one heading, each stored once. Knows no embedding and no index."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

from flatpack_build.digest import Json, canonical_json
from flatpack_build.vector.blocks import Block, Document, Kind, Section, Unit
from flatpack_build.vector.sentences import split_sentences

MAX_CHARACTERS = 1200
"""No chunk is longer. About 300 tokens of English: three of them and an answer fit a context of 2,048."""

_CUTS = (re.compile(r"[;:,]\s+|[\u3001\uff0c\uff1b]"), re.compile(r"\s+"))


class _Record(TypedDict):
    id: str
    text: str
    source: str
    unit: Unit
    first: int
    last: int
    heading: list[str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some sentences of one document. ``first`` and ``last`` are its pages or lines (``unit``), counted from 1."""

    id: str
    """The first 16 hexadecimal characters of the sha256 of ``text``."""
    text: str
    source: str
    """The document's path below the document folder."""
    unit: Unit
    first: int
    last: int
    heading: tuple[str, ...]
    """The headings above it, outermost first."""

    @property
    def passage(self) -> str:
        """What is embedded: the two nearest headings and the text, so that a section is found by its title too."""
        return "\n".join((*self.heading[-2:], self.text))

    def to_json(self) -> bytes:
        """One line of JSON, without its end."""
        record: dict[str, Json] = {
            "id": self.id, "text": self.text, "source": self.source, "unit": self.unit,
            "first": self.first, "last": self.last, "heading": list(self.heading),
        }  # fmt: skip
        return canonical_json(record)

    @classmethod
    def from_json(cls, line: bytes) -> Chunk:
        """Raises ``ValueError`` when ``line`` is no chunk."""
        try:
            record: _Record = json.loads(line)
            return cls(
                id=record["id"], text=record["text"], source=record["source"], unit=record["unit"],
                first=record["first"], last=record["last"], heading=tuple(record["heading"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a chunk: {error}") from error


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a chunk is put together from: a sentence, a list item, a table row, a code block."""

    text: str
    kind: Kind
    block: int
    first: int
    last: int


def chunk_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def chunks_of(document: Document, *, sentences: int = 5, max_characters: int = MAX_CHARACTERS) -> Iterator[Chunk]:
    """Cut one document into chunks of at most ``sentences`` sentences and ``max_characters`` characters.

    A section of seven sentences gives four and three, not five and two. A chunk never reaches over a heading; code
    stays with the sentence that introduces it where there is room.
    """
    for section in document.sections:
        for pieces in _groups(list(_pieces(section, max_characters)), sentences, max_characters):
            text = _text(pieces)
            yield Chunk(
                id=chunk_id(text), text=text, source=document.path, unit=document.unit, heading=section.heading,
                first=min(piece.first for piece in pieces), last=max(piece.last for piece in pieces),
            )  # fmt: skip


def unique(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The first chunk of each text. What is said twice is found once."""
    seen: set[str] = set()
    for chunk in chunks:
        if chunk.text not in seen:
            seen.add(chunk.text)
            yield chunk


def _pieces(section: Section, limit: int) -> Iterator[_Piece]:
    for number, block in enumerate(section.blocks):
        for text in _split(block, limit):
            yield _Piece(text, block.kind, number, block.first, block.last)


def _split(block: Block, limit: int) -> Iterator[str]:
    if block.kind == "code":
        yield from _cut_lines(block.text, limit)
    elif block.kind == "item":
        for at, part in enumerate(_cut(block.text, limit - 2)):
            yield part if at else f"- {part}"
    elif block.kind == "row":
        yield from _cut(block.text, limit)
    else:
        for sentence in split_sentences(block.text):
            yield from _cut(sentence, limit)


def _cut(text: str, limit: int) -> Iterator[str]:
    """Parts of at most ``limit`` characters, cut behind a comma or semicolon if there is one in the second half,
    else between words, else anywhere."""
    while len(text) > limit:
        at = limit
        for pattern in _CUTS:
            ends = [match.end() for match in pattern.finditer(text, limit // 2, limit)]
            if ends:
                at = ends[-1]
                break
        yield text[:at].rstrip()
        text = text[at:].lstrip()
    if text:
        yield text


def _cut_lines(code: str, limit: int) -> Iterator[str]:
    """Whole lines as long as they fit. A line that is too long by itself is cut anywhere."""
    part = ""
    for line in code.split("\n"):
        if part and len(part) + 1 + len(line) > limit:
            yield part
            part = ""
        part = f"{part}\n{line}" if part else line
        while len(part) > limit:
            yield part[:limit]
            part = part[limit:]
    if part.strip():
        yield part


def _groups(pieces: list[_Piece], sentences: int, limit: int) -> Iterator[list[_Piece]]:
    target = math.ceil(len(pieces) / math.ceil(len(pieces) / sentences)) if pieces else 0
    group: list[_Piece] = []
    for piece in pieces:
        if group:
            introduced = piece.kind == "code" and group[-1].kind != "code"
            if (len(group) >= target and not introduced) or len(_text([*group, piece])) > limit:
                yield group
                group = []
        group.append(piece)
    if group:
        yield group


def _text(pieces: list[_Piece]) -> str:
    """Sentences of one paragraph on one line; every item, row, code block and new paragraph on its own."""
    text = pieces[0].text
    for before, piece in pairwise(pieces):
        text += (" " if piece.block == before.block and piece.kind != "code" else "\n") + piece.text
    return text
