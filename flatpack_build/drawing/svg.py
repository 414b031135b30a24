"""The picture as an SVG that stands alone: no script, no font, no other file; for light and dark pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from flatpack_build.drawing.layout import Layout, Spot, lay_out
from flatpack_build.drawing.picture import MEANING, VERDICTS, DrawnAction, Picture

_MARGIN = 28.0
_HEADING = 44.0
_PAD = 16.0
_LEGEND = 30.0
# Text is set in whatever monospaced font there is: all of these have characters of about 0.6 of their size.
_CHARACTER = 0.61
_TITLE, _TEXT, _HEAD = 14.0, 12.0, 18.0
_NODE_HEIGHT = 66.0

_STYLE = """
  text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1d2430; }
  .page { fill: #ffffff; }
  .title { font-size: 14px; font-weight: bold; }
  .text { font-size: 12px; }
  .head { font-size: 18px; font-weight: bold; }
  .faint { fill: #5b6472; }
  .line { fill: none; stroke: #98a2b0; stroke-width: 1.5; }
  .arrow { fill: #98a2b0; }
  .node { stroke-width: 1.5; }
  .would-run .node { fill: #fff1cc; stroke: #c98a00; } .would-run .mark { fill: #c98a00; }
  .may-run .node { fill: #fffaf0; stroke: #c98a00; stroke-dasharray: 5 3; } .may-run .mark { fill: #e0b860; }
  .fails .node { fill: #ffe3e0; stroke: #c4302b; } .fails .mark { fill: #c4302b; }
  .cached .node { fill: #e2effc; stroke: #2f74c0; } .cached .mark { fill: #2f74c0; }
  .up-to-date .node { fill: #e6f5e8; stroke: #3c8f4a; } .up-to-date .mark { fill: #3c8f4a; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e7ebf2; } .page { fill: #14181f; } .faint { fill: #a3adbb; }
    .line { stroke: #6b7685; } .arrow { fill: #6b7685; }
    .would-run .node { fill: #453405; } .may-run .node { fill: #262114; } .fails .node { fill: #4a1a18; }
    .cached .node { fill: #142f4c; } .up-to-date .node { fill: #17351c; }
  }
"""


def svg(pictures: Sequence[Picture]) -> str:
    """One drawing of all flatpacks, one below the other, and a legend of the states that occur."""
    parts: list[str] = []
    width, y = 0.0, _MARGIN
    for picture in pictures:
        sizes = {action.name: (_width(action), _NODE_HEIGHT) for action in picture.actions}
        layout = lay_out(sizes, {action.name: action.needs for action in picture.actions})
        parts.append(_picture(picture, layout, y))
        width = max(width, layout.width, len(picture.flatpack) * _HEAD * _CHARACTER)
        y += _HEADING + layout.height + _MARGIN
    legend, legend_width = _legend(pictures, y)
    width, height = max(width, legend_width) + 2 * _MARGIN, y + _LEGEND + _MARGIN / 2
    title = f"Build graph of {', '.join(picture.flatpack for picture in pictures)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" '
        f'height="{_n(height)}" role="img" aria-label="{_attribute(title)}">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<rect class="page" width="{_n(width)}" height="{_n(height)}"/>\n' + "".join(parts) + legend + "</svg>\n"
    )


def _width(action: DrawnAction) -> float:
    state = len(action.verdict) * _TEXT + 1.6 * _TEXT
    return max(len(action.title) * _TITLE, len(action.subtitle) * _TEXT, state) * _CHARACTER + 2 * _PAD


def _picture(picture: Picture, layout: Layout, y: float) -> str:
    parts = [
        f'<text class="head" x="{_n(_MARGIN)}" y="{_n(y + _HEAD)}">{escape(picture.flatpack)}</text>\n',
        f'<g transform="translate({_n(_MARGIN)} {_n(y + _HEADING)})">\n',
    ]
    parts += [_line(points) for _, points in sorted(layout.lines.items())]
    parts += [_node(action, layout.spots[action.name]) for action in picture.actions]
    return "".join([*parts, "</g>\n"])


def _line(points: Sequence[tuple[float, float]]) -> str:
    """Bends between two columns, straight through a column."""
    x, y = points[0]
    path = [f"M{_n(x)} {_n(y)}"]
    for index, (to_x, to_y) in enumerate(points[1:], 1):
        if index == len(points) - 1:
            to_x -= 6  # room for the arrow's head
        if index % 2 == 0 or to_y == y:
            path.append(f"L{_n(to_x)} {_n(to_y)}")
        else:
            middle = (x + to_x) / 2
            path.append(f"C{_n(middle)} {_n(y)} {_n(middle)} {_n(to_y)} {_n(to_x)} {_n(to_y)}")
        x, y = to_x, to_y
    head = f"M{_n(x + 6)} {_n(y)} l-9 -4.5 v9 z"
    return f'<path class="line" d="{" ".join(path)}"/><path class="arrow" d="{head}"/>\n'


def _node(action: DrawnAction, spot: Spot) -> str:
    left, baseline = _n(spot.x + _PAD), spot.y
    tip = f"{action.name}: {action.verdict}" + (f". {action.note}" if action.note else "")
    return (
        f'<g class="{_css(action.verdict)}"><title>{escape(tip)}</title>'
        f'<rect class="node" x="{_n(spot.x)}" y="{_n(spot.y)}" width="{_n(spot.width)}" height="{_n(spot.height)}" rx="7"/>'
        f'<text class="title" x="{left}" y="{_n(baseline + 21)}">{escape(action.title)}</text>'
        f'<text class="text" x="{left}" y="{_n(baseline + 38)}">{escape(action.subtitle)}</text>'
        f'<circle class="mark" cx="{_n(spot.x + _PAD + 4)}" cy="{_n(baseline + 51)}" r="4"/>'
        f'<text class="text faint" x="{_n(spot.x + _PAD + 14)}" y="{_n(baseline + 55)}">{escape(action.verdict)}</text>'
        "</g>\n"
    )


def _legend(pictures: Sequence[Picture], y: float) -> tuple[str, float]:
    parts, x = [], _MARGIN
    for verdict in VERDICTS:
        count = sum(picture.count(verdict) for picture in pictures)
        if count:
            text = f"{count} {MEANING[verdict]}"
            parts.append(
                f'<g class="{_css(verdict)}"><circle class="mark" cx="{_n(x + 5)}" cy="{_n(y - 4)}" r="5"/>'
                f'<text class="text faint" x="{_n(x + 17)}" y="{_n(y)}">{escape(text)}</text></g>\n'
            )
            x += 17 + len(text) * _TEXT * _CHARACTER + 26
    return "".join(parts), x - _MARGIN


def _css(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
