"""Tables of plain text for terminals of any width. Knows nothing of what is in them.

Not rich's: loading that takes longer than all the rest of a build of nothing, and it breaks or cuts paths that one wants
to copy.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TextIO

from flatpack_build.listing.style import Style

_GAP = "  "


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal behind ``stream``; ``None`` where there is none, and lines may be as long as they like."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    right: Collection[str] = (),
    style: Style | None = None,
    kind: Callable[[str, str], str] = lambda _column, _text: "",
) -> Iterator[str]:
    """A line a row, below a line with the names of the columns; ``right`` are aligned right.

    No cell is cut or broken, so that names and paths can be copied. Where a line would be wider than ``width``, the last
    cell of each row stands on a line of its own. ``kind`` gives the style of a cell, by column and text.
    """
    style = style or Style(colour=False)
    everything = (tuple(columns), *rows)
    widths = [max(len(row[index]) for row in everything) for index in range(len(columns))]
    own_line = width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width

    def cell(index: int, text: str, name: str) -> str:
        padding = " " * (widths[index] - len(text))
        painted = style(text, name)
        return padding + painted if columns[index] in right else painted + padding

    for number, row in enumerate(everything):
        kinds = (
            ["name"] * len(row)
            if number == 0
            else [kind(column, text) for column, text in zip(columns, row, strict=True)]
        )
        cells = [cell(index, text, kinds[index]) for index, text in enumerate(row[:-1])]
        last = style(row[-1], kinds[-1])
        if own_line:
            yield _GAP.join(cells).rstrip()
            if row[-1]:
                yield f"{_GAP}{_GAP}{last}"
        else:
            yield _GAP.join([*cells, last]).rstrip()
