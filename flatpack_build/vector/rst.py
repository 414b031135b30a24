"""reStructuredText to blocks. Reads what carries meaning; directives other than code and notes are passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flatpack_build.vector.blocks import Block, tidy, tidy_code

_ADORNMENT = re.compile(r"^([!-/:-@\[-`{-~])\1{2,}\s*$")
# As in Markdown: no pattern takes steps without bounds for each character.
_RULE = re.compile(r"^(?=[\s+=|-]*$).*?[=-]{2}")
_ITEM = re.compile(r"^(\s*)(?:[-*+•]|(?:\d{1,9}|#|[a-zA-Z])[.)]|\(\w{1,3}\))\s+(\S.*)$")
_DIRECTIVE = re.compile(r"^(\s*)\.\.\s+([\w:-]+)::\s*(.*)$")
_EXPLICIT = re.compile(r"^(\s*)\.\.(\s|$)")
_OPTION = re.compile(r"^\s*:[\w -]+:")
_CODE_DIRECTIVES = frozenset({"code", "code-block", "sourcecode", "parsed-literal", "literalinclude", "highlight"})
_TEXT_NAMES = """
admonition attention caution danger error hint important note tip warning versionadded versionchanged deprecated topic
sidebar epigraph rubric
"""
_TEXT_DIRECTIVES = frozenset(_TEXT_NAMES.split())
_INLINE = (
    (re.compile(r":[\w:+.-]{1,100}:`([^`<]*?)\s*(?:<[^`]*>)?`"), r"\1"),
    (re.compile(r"``(.+?)``"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^`]*>`__?"), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*(\S(?:.{0,1000}?\S)?)\*\*"), r"\1"),
    (re.compile(r"(?<!\w)\*(\S(?:.{0,1000}?\S)?)\*(?!\w)"), r"\1"),
    (re.compile(r"\|(\S(?:[^|]*\S)?)\|_{0,2}"), r"\1"),
    (re.compile(r"(?<=\w)__?(?=[\s.,;:!?)]|$)"), ""),
    (re.compile(r"\\(.)"), r"\1"),
)


def _inline(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return tidy(text)


def rst_blocks(text: str) -> Iterator[Block]:
    """The blocks of a reStructuredText, with lines counted from 1. Heading levels follow their order of appearance."""
    lines = [line.expandtabs(8).rstrip() for line in text.split("\n")]
    styles: list[str] = []
    gathered: list[str] = []
    item = False
    first = 0
    at = 0

    def flush(last: int) -> Iterator[Block]:
        nonlocal item
        content = _inline(" ".join(gathered).removesuffix("::"))
        if content:
            yield Block("item" if item else "text", content, first, last)
        gathered.clear()
        item = False

    while at < len(lines):
        line, number = lines[at], at + 1
        heading = None if gathered else _heading(lines, at)
        directive, entry = _DIRECTIVE.match(line), _ITEM.match(line)
        if heading:
            title, style, at = heading
            if style not in styles:
                styles.append(style)
            yield Block("heading", _inline(title), number, at, min(styles.index(style) + 1, 6))
        elif not line:
            literal = bool(gathered) and gathered[-1].endswith("::")
            indent = _indent(lines[number - 2]) if literal else 0
            yield from flush(number - 1)
            at = number
            if literal:
                block, at = _indented(lines, at, indent)
                yield from block
        elif directive:
            yield from flush(number - 1)
            name = directive.group(2).lower()
            if name in _CODE_DIRECTIVES:
                block, at = _indented(lines, number, _indent(line))
                yield from block
            elif name in _TEXT_DIRECTIVES:
                at = number  # its text is read on as ordinary paragraphs
                if directive.group(3):
                    gathered.append(directive.group(3))
                    first = number
            else:
                at = _below(lines, number, _indent(line))
        elif _EXPLICIT.match(line):
            yield from flush(number - 1)
            at = _below(lines, number, _indent(line))  # a comment, a target, a footnote
        elif _RULE.match(line) or _ADORNMENT.match(line):
            yield from flush(number - 1)
            at = number
        elif _OPTION.match(line) and not gathered:
            at = number
        elif entry:
            yield from flush(number - 1)
            gathered.append(entry.group(2))
            item, first, at = True, number, number
        else:
            if not gathered:
                first = number
            gathered.append(line.strip().strip("|").strip() if line.lstrip().startswith("|") else line.strip())
            at = number
    yield from flush(len(lines))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _heading(lines: list[str], at: int) -> tuple[str, str, int] | None:
    """The title beginning at ``at``, its style, and the index of the line after it; None when there is none."""

    def line(index: int) -> str:
        return lines[index] if index < len(lines) else ""

    over = _ADORNMENT.match(line(at))
    if over and line(at + 1).strip() and line(at + 2) == line(at):
        return line(at + 1), over.group(1) * 2, at + 3
    under = _ADORNMENT.match(line(at + 1))
    title = line(at)
    if under and title and not over and not title.startswith(" ") and len(line(at + 1)) >= min(len(title), 4):
        return title, under.group(1), at + 2
    return None


def _below(lines: list[str], at: int, indent: int) -> int:
    """The first line from ``at`` on that is not part of what is indented deeper than ``indent``."""
    while at < len(lines) and (not lines[at] or _indent(lines[at]) > indent):
        at += 1
    return at


def _indented(lines: list[str], at: int, indent: int) -> tuple[list[Block], int]:
    end = _below(lines, at, indent)
    while at < end and (not lines[at] or _OPTION.match(lines[at])):
        at += 1
    body = lines[at:end]
    margin = min((_indent(line) for line in body if line), default=0)
    code = tidy_code("\n".join(line[margin:] for line in body))
    return ([Block("code", code, at + 1, at + 1 + code.count("\n"))] if code else []), end
