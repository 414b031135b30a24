"""Where boxes stand: for any graph none overlap, no line crosses a box, and the same graph gives the same drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.drawing.layout import Layout, lay_out
from flatpack_build.drawing.picture import DrawnAction, Picture, dot
from flatpack_build.drawing.svg import svg

graphs = st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=50).map(
    lambda links: {
        f"n{high}": tuple(sorted({f"n{low}" for other, low in links if other == high and low < high}))
        for high in range(25)
    }
)


def laid(needs: Mapping[str, tuple[str, ...]]) -> Layout:
    return lay_out({name: (40.0 + 7 * index % 90, 60.0) for index, name in enumerate(needs)}, needs)


@settings(max_examples=40, deadline=None)
@given(graphs)
def test_boxes_do_not_overlap_and_lines_go_forward_around_them(needs: Mapping[str, tuple[str, ...]]) -> None:
    layout = laid(needs)
    spots = list(layout.spots.items())
    assert {name for name, _ in spots} == set(needs)
    for index, (_, one) in enumerate(spots):
        assert one.x >= 0
        assert one.y >= -1e-6
        assert one.x + one.width <= layout.width + 1e-6
        assert one.y + one.height <= layout.height + 1e-6
        for _, other in spots[index + 1 :]:
            beside = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert beside or one.y + one.height <= other.y + 1e-6 or other.y + other.height <= one.y + 1e-6
    assert set(layout.lines) == {(need, name) for name, wanted in needs.items() for need in wanted}
    for (need, name), points in layout.lines.items():
        assert layout.spots[need].x + layout.spots[need].width == points[0][0]
        assert layout.spots[name].x == points[-1][0]
        assert [x for x, _ in points] == sorted(x for x, _ in points)
        for left, right in zip(points[1:-1:2], points[2:-1:2], strict=True):  # straight through a column
            for spot in layout.spots.values():
                in_column = spot.x < right[0] and left[0] < spot.x + spot.width
                assert not (in_column and spot.y < left[1] < spot.y + spot.height)


@settings(max_examples=10, deadline=None)
@given(graphs)
def test_the_same_graph_gives_the_same_picture(needs: Mapping[str, tuple[str, ...]]) -> None:
    assert laid(needs) == laid(dict(needs))


def test_a_chain_stands_in_one_line() -> None:
    layout = laid({"a": (), "b": ("a",), "c": ("b",)})
    assert len({round(spot.y, 3) for spot in layout.spots.values()}) == 1


def picture() -> Picture:
    hostile = '"<&>\\'
    return Picture(
        "chat",
        [
            DrawnAction("fetch:chat", "fetch", hostile, "up to date", "", ()),
            DrawnAction("run:chat", "run", "x" * 60, "would run", f"because of {hostile}", ("fetch:chat",)),
        ],
    )


def test_the_svg_is_well_formed_stands_alone_and_its_text_fits() -> None:
    text = svg([picture()])
    root = ET.fromstring(text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    space = "{http://www.w3.org/2000/svg}"
    nodes = [group for group in root.iter(f"{space}g") if group.find(f"{space}rect") is not None]
    assert len(nodes) == 2
    for node in nodes:
        box = node.find(f"{space}rect")
        assert box is not None
        for label in node.findall(f"{space}text"):
            size = 14 if label.get("class") == "title" else 12
            end = float(label.get("x", "0")) + len(label.text or "") * size * 0.6
            assert end <= float(box.get("x", "0")) + float(box.get("width", "0"))
    assert "1 would run" in text
    assert "prefers-color-scheme: dark" in text


def test_dot_quotes_what_it_must() -> None:
    text = dot([picture()])
    assert '"fetch:chat" -> "run:chat";' in text
    assert '\\"<&>\\\\' in text
