"""PDF to blocks, page by page. Headings are told by their size, code by its typeface. Knows nothing of chunks."""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from flatpack_build.vector.blocks import Block, Kind, tidy, tidy_code

if TYPE_CHECKING:
    from pypdf import PageObject

_MONOSPACED = re.compile(r"courier|mono|consol|menlo|typewriter|cmtt|inconsolata|sourcecode", re.IGNORECASE)
_ITEM = re.compile(r"^\s*(?:[-*+\u2022\u2023\u25aa\u25cf\u25e6\u2013\u2043]|\d{1,2}[.)])\s+(\S.*)$")
_CONTENTS_LINE = re.compile(r"(?:\.\s?){4,}\s*[\divxlc]+\s*$")
_SENTENCE_END = re.compile(r"[.!?\u2026:\u3002\uff01\uff1f][\"'\u2019\u201d)\]]*$")
_HEADING_RATIO = 1.1
_GAP_RATIO = 1.2

# What pypdf lets through on files that are not what they say: its own errors, and those of the parsers below it.
# MemoryError is not among them: that is the machine's trouble, not the file's.
_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, OSError, RecursionError,
    TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


class PdfError(ValueError):
    """A PDF that cannot be read. ``hint`` says what its owner can do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    page: int
    size: float  # points
    top: float  # points from the bottom of the page
    mono: bool


def pdf_blocks(data: bytes) -> list[Block]:
    """The blocks of a PDF, with pages counted from 1. No block at all where it holds only pictures.

    Raises ``PdfError`` when the file is damaged or asks for a password.
    """
    from pypdf import PdfReader  # 100 ms, and most folders hold no PDF
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data))
        # Many files only restrict printing or copying and open with an empty password.
        locked = reader.is_encrypted and not reader.decrypt("")
        sheets = [] if locked else enumerate(reader.pages, start=1)
        pages = [list(_lines(page, number)) for number, page in sheets]
    except (PyPdfError, *_DAMAGE) as error:
        raise PdfError(
            f"it is damaged or not a PDF ({type(error).__name__}: {error})",
            "open it in a viewer and save or print it to a new PDF",
        ) from error
    if locked:
        raise PdfError("it asks for a password", "save a copy without one, for instance: qpdf --decrypt in.pdf out.pdf")
    return list(_blocks(_without_furniture(pages)))


def _lines(page: PageObject, number: int) -> Iterator[_Line]:
    """The lines of one page in reading order, each with the size and place of its longest piece."""
    pieces: list[list[tuple[str, float, float, bool]]] = [[]]

    def visit(text: str, cm: Sequence[float], tm: Sequence[float], font: dict[str, object] | None, size: float) -> None:
        points = round(size * math.hypot(tm[2], tm[3]) * math.hypot(cm[2], cm[3]), 1)
        top = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
        mono = bool(_MONOSPACED.search(str((font or {}).get("/BaseFont", ""))))
        for at, part in enumerate(text.split("\n")):
            if at:
                pieces.append([])
            if part:
                pieces[-1].append((part, points, top, mono))

    page.extract_text(visitor_text=visit)
    for parts in pieces:
        text = "".join(part for part, *_ in parts)
        if text.strip():
            _, size, top, mono = max(parts, key=lambda part: len(part[0].strip()))
            yield _Line(text, number, size, top, mono)


def _without_furniture(pages: list[list[_Line]]) -> list[_Line]:
    """Drop running headers and footers, page numbers and tables of contents: they stand in the way of every search."""

    def shape(line: _Line) -> str:
        return re.sub(r"\d+", "#", tidy(line.text))

    def edges(page: list[_Line]) -> set[str]:
        return {shape(line) for line in (*page[:2], *page[-2:])}

    seen = Counter(text for page in pages for text in edges(page))
    enough = max(3, math.ceil(len(pages) / 2))
    running = {text for text, count in seen.items() if count >= enough}
    kept: list[_Line] = []
    for page in pages:
        for at, line in enumerate(page):
            at_edge = at < 2 or at >= len(page) - 2
            text = shape(line)
            if at_edge and (text in running or text.strip(" -\u2013|/") in ("", "#", "# / #")):
                continue
            if not _CONTENTS_LINE.search(line.text):
                kept.append(line)
            elif kept and kept[-1].page == line.page and kept[-1].size > line.size:
                kept.pop()  # the title above the table of contents
    return kept


def _blocks(lines: list[_Line]) -> Iterator[Block]:
    """Join lines to headings, paragraphs, items and code."""
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    body = max(sizes, key=lambda size: (sizes[size], -size), default=0.0)
    larger = sorted({line.size for line in lines if line.size >= body * _HEADING_RATIO}, reverse=True)
    levels = {size: min(level, 6) for level, size in enumerate(larger, start=1)}
    leading = _leading(lines)

    def kind_of(line: _Line) -> Kind:
        if line.mono:
            return "code"
        if line.size in levels and len(line.text) <= 200:
            return "heading"
        return "item" if _ITEM.match(line.text) else "text"

    gathered: list[_Line] = []
    kind: Kind = "text"
    for line in lines:
        here = kind_of(line)
        if gathered and not _goes_on(kind, here, gathered[-1], line, leading):
            yield from _block(kind, gathered, levels)
            gathered = []
        if not gathered:
            kind = here
        gathered.append(line)
    if gathered:
        yield from _block(kind, gathered, levels)


def _leading(lines: list[_Line]) -> float:
    """The usual distance from line to line, as a multiple of the letters' size."""
    steps = Counter(
        round((above.top - below.top) / above.size, 1)
        for above, below in pairwise(lines)
        if above.page == below.page and above.size == below.size > 0 and 0 < above.top - below.top < 4 * above.size
    )
    return max(steps, key=lambda step: (steps[step], -step), default=1.5)


def _goes_on(kind: Kind, here: Kind, above: _Line, line: _Line, leading: float) -> bool:
    """Whether ``line`` belongs to the block of ``kind`` that ends with ``above``."""
    if kind in ("code", "heading"):
        return here == kind and above.page == line.page and above.size == line.size
    if here != "text" or (kind == "text" and abs(above.size - line.size) > 0.25 * above.size):
        return False
    if above.page != line.page or line.top > above.top:  # the next page, or the next column
        return not _SENTENCE_END.search(above.text.rstrip())
    # One tenth is what rounding may add to the step.
    return above.top - line.top <= (leading * _GAP_RATIO + 0.1) * max(above.size, 1.0)


def _block(kind: Kind, lines: list[_Line], levels: dict[float, int]) -> Iterator[Block]:
    first, last = lines[0].page, lines[-1].page
    if kind == "code":
        text = tidy_code("\n".join(line.text for line in lines))
    else:
        text = tidy(_joined(line.text for line in lines))
        match = _ITEM.match(text) if kind == "item" else None
        text = match.group(1) if match else text
    if text:
        yield Block(kind, text, first, last, levels[lines[0].size] if kind == "heading" else 0)


def _joined(lines: Iterable[str]) -> str:
    """One text of several lines. A word divided at the end of a line is made whole."""
    parts = [""]
    for line in (line.strip() for line in lines):
        end = parts[-1]
        if end.endswith("\u00ad") or (re.search(r"[^\W\d_]-$", end[-2:]) and line[:1].islower()):
            parts[-1] = end[:-1] + line
        else:
            parts.append(line)
    return " ".join(parts)
