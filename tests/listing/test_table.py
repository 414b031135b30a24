from __future__ import annotations

from flatpack_build.listing.style import Style
from flatpack_build.listing.table import table

_COLUMNS = ("", "size", "box")
_ROWS = [("OK", "15.7 MB", "dist/hello-docs-0.1.0-laptop.fpk"), ("refused", "", "x.fpk")]


def test_a_table_that_fits_is_a_line_a_row() -> None:
    assert list(table(_COLUMNS, _ROWS, width=80, right=("size",))) == [
        "            size  box",
        "OK       15.7 MB  dist/hello-docs-0.1.0-laptop.fpk",
        "refused           x.fpk",
    ]
    assert list(table(_COLUMNS, _ROWS, right=("size",))) == list(table(_COLUMNS, _ROWS, width=80, right=("size",)))


def test_where_it_is_narrow_nothing_is_cut_or_broken() -> None:
    assert list(table(_COLUMNS, _ROWS, width=20)) == [
        "         size",
        "    box",
        "OK       15.7 MB",
        "    dist/hello-docs-0.1.0-laptop.fpk",
        "refused",
        "    x.fpk",
    ]


def test_colours_take_no_room() -> None:
    plain = list(table(_COLUMNS, _ROWS, width=80))
    painted = list(table(_COLUMNS, _ROWS, width=80, style=Style(colour=True), kind=lambda *_: "fails"))
    assert painted != plain
    for code in ("\x1b[1m", "\x1b[31;1m", "\x1b[0m"):
        painted = [line.replace(code, "") for line in painted]
    assert [line.rstrip() for line in painted] == plain
