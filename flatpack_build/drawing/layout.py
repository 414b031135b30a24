"""Where the boxes of a drawn graph stand: in columns by depth, with few crossings and no line across a box. Pure.

The method is the usual one in layers: an edge over several columns gets a place to pass in each, the order within a
column follows the mean of the neighbours, and then each box moves as near to its neighbours as its column allows. It
is deterministic: the same graph gives the same drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SWEEPS = 40
_GAP_X = 84.0
_GAP_Y = 22.0
_PASS = 10.0  # the height that a line passing through a column takes


@dataclass(frozen=True)
class Spot:
    """A box: its top left corner and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """``lines``: (from, to) -> the points that the line goes through, from the right of one box to the left of another."""

    spots: Mapping[str, Spot]
    lines: Mapping[tuple[str, str], tuple[tuple[float, float], ...]]
    width: float
    height: float


@dataclass(frozen=True)
class _Place:
    """Something that takes room in a column: a box, or (``passes``) the line between two boxes."""

    name: str
    column: int
    passes: tuple[str, str] | None = None


def lay_out(sizes: Mapping[str, tuple[float, float]], needs: Mapping[str, Sequence[str]]) -> Layout:
    """``sizes``: width and height of each box, in an order in which each stands after what it ``needs``."""
    columns, chains = _columns(sizes, needs)
    before: dict[_Place, list[_Place]] = {}
    after: dict[_Place, list[_Place]] = {}
    for chain in chains.values():
        for first, second in itertools.pairwise(chain):
            before.setdefault(second, []).append(first)
            after.setdefault(first, []).append(second)
    _order(columns, before, after)
    tall = {place: _PASS if place.passes else sizes[place.name][1] for column in columns for place in column}
    middles = _middles(columns, before, after, tall)
    widths = [max((sizes[place.name][0] for place in column if not place.passes), default=0.0) for column in columns]
    lefts = [sum(widths[:index]) + _GAP_X * index for index in range(len(columns))]
    top = min((middles[place] - tall[place] / 2 for place in middles), default=0.0)
    spots = {}
    for place, middle in middles.items():
        if not place.passes:
            width, height = widths[place.column], sizes[place.name][1]
            spots[place.name] = Spot(lefts[place.column], middle - height / 2 - top, width, height)
    lines = {}
    for edge, chain in chains.items():
        points: list[tuple[float, float]] = []
        for place in chain:
            left, right, y = lefts[place.column], lefts[place.column] + widths[place.column], middles[place] - top
            points += [(left, y), (right, y)]
        lines[edge] = tuple(points[1:-1])
    height = max((spot.y + spot.height for spot in spots.values()), default=0.0)
    height = max([height, *(y for points in lines.values() for _, y in points)])
    return Layout(spots, lines, sum(widths) + _GAP_X * max(len(columns) - 1, 0), height)


def _columns(
    sizes: Mapping[str, tuple[float, float]], needs: Mapping[str, Sequence[str]]
) -> tuple[list[list[_Place]], dict[tuple[str, str], list[_Place]]]:
    """Places by column, and the chain of places of each edge."""
    depth: dict[str, int] = {}
    for name in sizes:
        depth[name] = 1 + max((depth[need] for need in needs[name]), default=-1)
    followers: dict[str, list[str]] = {}
    for name in sizes:
        for need in needs[name]:
            followers.setdefault(need, []).append(name)
    for name in reversed(list(sizes)):  # what needs nothing stands just before what needs it, not all at the left
        if name in followers:
            depth[name] = min(depth[follower] for follower in followers[name]) - 1
    columns: list[list[_Place]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    boxes = {name: _Place(name, depth[name]) for name in sizes}
    for place in boxes.values():
        columns[place.column].append(place)
    chains = {}
    for name in sizes:
        for need in needs[name]:
            passing = [_Place("", column, (need, name)) for column in range(depth[need] + 1, depth[name])]
            for place in passing:
                columns[place.column].append(place)
            chains[need, name] = [boxes[need], *passing, boxes[name]]
    return columns, chains


def _order(
    columns: list[list[_Place]], before: Mapping[_Place, list[_Place]], after: Mapping[_Place, list[_Place]]
) -> None:
    """Order each column by the mean place of the neighbours, to and fro, and keep the order with the fewest crossings."""
    best = [list(column) for column in columns]
    fewest = _crossings(columns, after)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else columns[::-1]:
            rank = {place: index for other in columns for index, place in enumerate(other)}
            neighbours = before if forward else after
            weight = {
                place: _mean([rank[other] for other in neighbours.get(place, [])], rank[place]) for place in column
            }
            column.sort(key=lambda place: weight[place])
        crossings = _crossings(columns, after)
        if crossings < fewest:
            fewest, best = crossings, [list(column) for column in columns]
    columns[:] = best


def _crossings(columns: list[list[_Place]], after: Mapping[_Place, list[_Place]]) -> int:
    rank = {place: index for column in columns for index, place in enumerate(column)}
    count = 0
    for column in columns:
        edges = [(rank[first], rank[second]) for first in column for second in after.get(first, [])]
        for index, (first, second) in enumerate(edges):
            count += sum((first - other[0]) * (second - other[1]) < 0 for other in edges[index + 1 :])
    return count


def _middles(
    columns: list[list[_Place]],
    before: Mapping[_Place, list[_Place]],
    after: Mapping[_Place, list[_Place]],
    tall: Mapping[_Place, float],
) -> dict[_Place, float]:
    """The height at which the middle of each place stands."""
    middles: dict[_Place, float] = {}
    for column in columns:
        y = 0.0
        for place in column:
            middles[place] = y + tall[place] / 2
            y += tall[place] + _GAP_Y
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 else columns[::-1]:
            wanted = [
                _mean([middles[other] for other in (*before.get(place, ()), *after.get(place, ()))], middles[place])
                for place in column
            ]
            for place, middle in zip(column, _apart(wanted, [tall[place] for place in column]), strict=True):
                middles[place] = middle
    return middles


def _apart(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """The middles nearest to the wanted ones that keep order and distance: blocks that overlap share their mean."""
    offsets = [0.0]
    for first, second in itertools.pairwise(heights):
        offsets.append(offsets[-1] + (first + second) / 2 + _GAP_Y)
    blocks: list[tuple[float, int]] = []  # mean of (wanted - offset), how many
    for middle, offset in zip(wanted, offsets, strict=True):
        mean, count = middle - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
