"""Where boxes and arrows of a layered graph stand: a row a level, long arrows between boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from site_imports import Graph

SWEEPS = 12
#: A bend of an arrow that passes a row: (from, to, row).
Bend = tuple[str, str, int]
Node = str | Bend


@dataclass(frozen=True)
class Size:
    """Of a box, of the gaps between boxes and rows, and of the way an arrow takes; in pixels."""

    width: float = 226
    height: float = 78
    gap: float = 18
    row_gap: float = 34
    way: float = 10


def rows_of(graph: Graph, level: Mapping[str, int]) -> list[list[Node]]:
    """The nodes from the highest level to the lowest, with a bend where an arrow passes a row."""
    top = max(level.values())
    rows: list[list[Node]] = [[] for _ in range(top)]
    for name in sorted(level):
        rows[top - level[name]].append(name)
    for name in sorted(graph):
        for target in sorted(graph[name]):
            for between in range(level[target] + 1, level[name]):
                rows[top - between].append((name, target, between))
    return _ordered(rows, _ways(graph, level))


def chain(name: str, target: str, level: Mapping[str, int]) -> list[Node]:
    """The nodes that an arrow passes, its ends included."""
    between = range(level[name] - 1, level[target], -1)
    return [name, *((name, target, row) for row in between), target]


def _ways(graph: Graph, level: Mapping[str, int]) -> list[tuple[Node, Node]]:
    ways = []
    for name in sorted(graph):
        for target in sorted(graph[name]):
            nodes = chain(name, target, level)
            ways += list(pairwise(nodes))
    return ways


def _ordered(rows: list[list[Node]], ways: Sequence[tuple[Node, Node]]) -> list[list[Node]]:
    """Every row by the middle of what its nodes hang on, down and up until little changes."""
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for upper, lower in ways:
        below.setdefault(upper, []).append(lower)
        above.setdefault(lower, []).append(upper)
    for sweep in range(SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            place = {
                node: (number + 0.5) / len(other) for other in rows
                for number, node in enumerate(other)
            }  # fmt: skip
            row.sort(key=lambda node: _middle(node, neighbours, place))
    return rows


def _middle(
    node: Node, neighbours: Mapping[Node, Sequence[Node]], place: Mapping[Node, float]
) -> float:  # fmt: skip
    found = [place[other] for other in neighbours.get(node, ())]
    return sum(found) / len(found) if found else place[node]


def places(rows: Sequence[Sequence[Node]], size: Size) -> dict[Node, tuple[float, float]]:
    """The middle of the upper side of every node; rows are centred on 0."""
    found: dict[Node, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        widths = [size.width if isinstance(node, str) else size.way for node in row]
        x = -(sum(widths) + size.gap * (len(row) - 1)) / 2
        for node, width in zip(row, widths, strict=True):
            found[node] = (x + width / 2, number * (size.height + size.row_gap))
            x += width + size.gap
    return found
