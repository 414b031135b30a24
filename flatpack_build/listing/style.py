"""How answers look, whatever they are about: colours, aligned lines, JSON. Knows none of what is shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

from flatpack_build.digest import Json

_COLOURS: Mapping[str, str] = {
    "would run": "33;1", "may run": "33", "fails": "31;1", "cached": "36", "up to date": "32",
    "+": "32", "-": "31", "@": "36", "name": "1", "faint": "2",
}  # fmt: skip


class Style:
    """Paints words where somebody looks at them, and leaves them alone elsewhere."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def __call__(self, text: str, kind: str) -> str:
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self._colour and kind in _COLOURS else text


def style_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Style:
    """Colours on a terminal that has them, unless NO_COLOR is set."""
    return Style(stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")


def lines(title: str, items: Iterable[str]) -> Iterator[str]:
    """One line an item; the first begins with the title."""
    for number, item in enumerate(items):
        yield f"  {title if number == 0 else '':<15}  {item}"


def unlocked_text(flatpack: str) -> str:
    """What can be said of a flatpack without a lock."""
    return (
        f"{flatpack} has no flatpack.lock yet: a build would make it first, and what it runs is not known until then\n"
        f"  hint: flatpack lock {flatpack}"
    )


def dump(value: Json) -> str:
    """JSON for programs that a person can read as well."""
    return json.dumps(value, indent=2, ensure_ascii=False)
