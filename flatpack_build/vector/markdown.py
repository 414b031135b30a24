"""Markdown and plain text to blocks. Reads what carries meaning and drops the marks; it does not render."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from flatpack_build.vector.blocks import Block, tidy, tidy_code

# No pattern here takes more than about its length in steps for each character, whatever the text is: documents come from
# anywhere. So there are bounds, and "+" behind a quantifier, which gives nothing back.
_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})[^`]*$")
_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:\s+(.*))?$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)\s*$")
_BREAK = re.compile(r"^ {0,3}([-*_])(?:\s*\1){2,}\s*$")
_ITEM = re.compile(r"^(\s*)(?:[-*+•]|\d{1,9}[.)])\s+(?:\[[ xX]\]\s+)?(\S.*)$")
_ROW_RULE = re.compile(r"^\s*+\|?\s*+:?-{2,}+:?\s*+(?:\|\s*+:?-{2,}+:?\s*+)*\|?\s*$")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s+\S+")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)

_INLINE = (
    (re.compile(r"!\[([^\]]{0,1000}+)\](?:\([^)]*+\)|\[[^\]]{0,1000}+\])"), r"\1"),
    (re.compile(r"\[([^\]]{1,1000}+)\](?:\([^)]*+\)|\[[^\]]{0,1000}+\])"), r"\1"),
    (re.compile(r"<((?:https?|mailto):[^>\s]{1,2000}+)>"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), " "),
    (re.compile(r"(\*\*|__)(?=\S)(.{1,1000}?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])(.{1,1000}?)(?<=[^\s*])\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w_])_(?=[^\s_])(.{1,1000}?)(?<=[^\s_])_(?![\w_])"), r"\1"),
    (re.compile(r"~~(?=\S)(.{1,1000}?)(?<=\S)~~"), r"\1"),
)
_PRIVATE = 0xE000
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_HIDDEN = re.compile(f"[{chr(_PRIVATE + 0x21)}-{chr(_PRIVATE + 0x7E)}]")
_CODE_SPAN = re.compile(r"(?<!`)(`++)(.+?)(?<!`)\1(?!`)")


def inline_text(text: str) -> str:
    """The words of one run of inline Markdown. What stands in code spans is kept to the letter."""
    parts: list[str] = []
    at = 0
    for match in _CODE_SPAN.finditer(text):
        parts += [_unmarked(text[at : match.start()]), match.group(2)]
        at = match.end()
    parts.append(_unmarked(text[at:]))
    return tidy("".join(parts))


def _unmarked(text: str) -> str:
    # Out of the way while marks are taken off: to characters that stand for nothing, one for each of ASCII.
    text = _ESCAPED.sub(lambda match: chr(_PRIVATE + ord(match.group(1))), text)
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return html.unescape(_HIDDEN.sub(lambda match: chr(ord(match.group()) - _PRIVATE), text))


def markdown_blocks(text: str) -> Iterator[Block]:
    """The blocks of a Markdown text, with lines counted from 1."""
    lines = _without_comments(text).split("\n")
    at = _after_front_matter(lines)
    open_kind: str = ""
    gathered: list[str] = []
    first = 0

    def flush(last: int) -> Iterator[Block]:
        nonlocal open_kind
        content = inline_text("\n".join(gathered))
        if content:
            yield Block("item" if open_kind == "item" else "text", content, first, last)
        gathered.clear()
        open_kind = ""

    while at < len(lines):
        line, number = lines[at], at + 1
        fence = _FENCE.match(line)
        if fence:
            yield from flush(number - 1)
            end = _fence_end(lines, at, fence.group(2))
            code = tidy_code("\n".join(_dedent(lines[at + 1 : end], len(fence.group(1)))))
            if code:
                yield Block("code", code, number, min(end + 1, len(lines)))
            at = end + 1
            continue
        at += 1
        heading, item = _HEADING.match(line), _ITEM.match(line)
        if not line.strip():
            yield from flush(number - 1)
        elif heading:
            yield from flush(number - 1)
            title = inline_text(_without_closing((heading.group(2) or "").rstrip()))
            if title:
                yield Block("heading", title, number, number, len(heading.group(1)))
        elif open_kind == "text" and _UNDERLINE.match(line):
            title = inline_text("\n".join(gathered))
            gathered.clear()
            open_kind = ""
            yield Block("heading", title, first, number, 1 if "=" in line else 2)
        elif _BREAK.match(line) or _REFERENCE.match(line):
            yield from flush(number - 1)
        elif item:
            yield from flush(number - 1)
            open_kind, first = "item", number
            gathered.append(item.group(2))
        elif line.lstrip().startswith("|"):
            yield from flush(number - 1)
            cells = [inline_text(cell) for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            if not _ROW_RULE.match(line) and any(cells):
                yield Block("row", " | ".join(cells), number, number)
        elif not open_kind and line.startswith(("    ", "\t")):
            end = at
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith(("    ", "\t"))):
                end += 1
            code = tidy_code("\n".join(_dedent([line, *lines[at:end]], 4)))
            yield Block("code", code, number, number + code.count("\n"))
            at = end
        else:
            if not open_kind:
                open_kind, first = "text", number
            gathered.append(re.sub(r"^\s*(?:>\s?)+", "", line))
    yield from flush(len(lines))


def _without_comments(text: str) -> str:
    """A comment keeps its line breaks, so that the lines below it keep their numbers."""
    end = text.rfind("-->") + 3  # behind it none ends, and none needs to be looked for
    return _COMMENT.sub(lambda match: "\n" * match.group().count("\n"), text[:end]) + text[end:]


def _without_closing(title: str) -> str:
    """The title without the marks that may stand behind it too: ``Title ##``."""
    bare = title.rstrip("#")
    return bare if bare[-1:].isspace() else title


def plain_blocks(text: str) -> Iterator[Block]:
    """The blocks of a plain text: paragraphs between empty lines, and list items. Nothing is taken for markup."""
    gathered: list[str] = []
    kind = "text"
    first = 0
    number = 0

    def flush(last: int) -> Iterator[Block]:
        content = tidy(" ".join(gathered))
        if content:
            yield Block("item" if kind == "item" else "text", content, first, last)
        gathered.clear()

    for number, line in enumerate(text.split("\n"), start=1):
        item = _ITEM.match(line)
        if not line.strip() or item:
            yield from flush(number - 1)
        if line.strip():
            if not gathered:
                kind, first = ("item" if item else "text"), number
            gathered.append(item.group(2) if item else line)
    yield from flush(number)


def _after_front_matter(lines: list[str]) -> int:
    """Where the text begins: behind a block of settings between two ``---`` at the very top, if there is one."""
    if lines and lines[0].strip() == "---":
        for at, line in enumerate(lines[1:], start=1):
            if line.strip() in ("---", "..."):
                return at + 1
    return 0


def _fence_end(lines: list[str], start: int, fence: str) -> int:
    for at in range(start + 1, len(lines)):
        closing = lines[at].strip()
        if closing.startswith(fence) and not closing.strip(fence[0]):
            return at
    return len(lines)


def _dedent(lines: list[str], width: int) -> list[str]:
    plain = [line.expandtabs(4) for line in lines]
    return [line[min(width, len(line) - len(line.lstrip(" "))) :] for line in plain]
