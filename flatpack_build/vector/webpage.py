"""HTML to blocks: the words a reader of the page sees. Knows nothing of scripts, styles or the network."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

from flatpack_build.vector.blocks import Block, Kind, tidy, tidy_code

_UNSEEN = frozenset({"script", "style", "template", "title", "noscript", "svg", "nav", "iframe", "object", "select"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
# Elements that end the line before them. Everything else is part of the running text.
_BLOCK_NAMES = """
address article aside blockquote body caption dd details dialog div dl dt fieldset figcaption figure footer form header
hr html legend li main menu ol p pre section summary table tbody tfoot thead tr ul
"""
_BREAKING = frozenset(_BLOCK_NAMES.split()) | frozenset(_HEADINGS)
_KINDS: dict[str, Kind] = {"li": "item", "pre": "code", "tr": "row", "dt": "text", "dd": "item"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._unseen = 0
        self._kind: Kind = "text"
        self._level = 0
        self._parts: list[str] = []
        self._begun = False  # whether a character that is seen stands in the parts
        self._first = 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag in _BREAKING:
            # A paragraph inside a list item or a table row is still that item or row.
            if self._kind in ("item", "row") and tag not in _KINDS and not self._begun:
                return
            self._flush()
            self._kind, self._level = _KINDS.get(tag, "text"), 0
            if tag in _HEADINGS:
                self._kind, self._level = "heading", _HEADINGS[tag]
        elif tag == "br":
            self._parts.append("\n")
        elif tag in ("td", "th") and self._begun:
            self._parts.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN:
            self._unseen = max(0, self._unseen - 1)
        elif tag in _BREAKING and (tag in _KINDS or self._kind not in ("item", "row")):
            self._flush()
            self._kind, self._level = "text", 0

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if not self._begun and data.strip():
            self._begun = True
            line = self.getpos()[0]
            self._first = line + data[: len(data) - len(data.lstrip())].count("\n")
        self._parts.append(data)

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        # The library asserts that it knows what stands there. A browser takes all it does not know for a comment.
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i)

    def close(self) -> None:
        super().close()
        self._flush()

    def _flush(self) -> None:
        raw = "".join(self._parts)
        self._parts = []
        self._begun = False
        text = tidy_code(raw) if self._kind == "code" else tidy(raw)
        if text:
            last = self._first + raw.strip().count("\n")
            self.blocks.append(Block(self._kind, text, self._first, last, self._level))


def html_blocks(text: str) -> Iterator[Block]:
    """The blocks of a page, with lines counted from 1. Broken markup is read as far as a browser would."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    yield from reader.blocks
