"""How wide and tall a grid is in LaTeX, and how it is cut and set so that it fits a page.

Widths are those of Computer Modern; a page is that of ``article``.  What is too wide is cut between
its blocks, each part with the columns of labels before it; what is still too wide is set smaller,
then cut between columns, and labels that are too long are wrapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from oodbench.tables.layout.grid import BLANK, Cell, Grid, Line
from oodbench.tables.layout.markup import Text

#: Size commands, points of a line of 10 at that size, and the height of a line in points.
SIZES = (("\\small", 0.93, 11.0), ("\\footnotesize", 0.86, 9.5), ("\\scriptsize", 0.81, 8.0))
TEXT_WIDTH, TEXT_HEIGHT = 345.0, 550.0
COLUMN_SEPARATION, GAP = 8.0, 20.0
#: The share of the width that one column of labels may take.
LABEL_SHARE = 0.3
#: Characters by their points at 10 points (cmr10, rounded up); others take `OTHER`.
_BY_POINTS = {
    2.8: "ijl.,;:'!|[]", 3.4: "f-` \u00a0", 3.9: "rst()I", 4.5: "cez", 5.0: "ago/0123456789*",
    5.6: "bdhknpqsuvxyJS?", 6.9: "ELFPZ", 7.3: "BCTRw", 7.9: "ADGHKNOQUVXY&@+=<>±×−≤≥†",
    8.4: "m%#", 9.2: "M", 10.3: "W—…",
}  # fmt: skip
_POINTS = {char: points for points, chars in _BY_POINTS.items() for char in chars}
OTHER = 7.5


@dataclass(frozen=True)
class Part:
    """A grid that fits, its size command, and the widths (points) of labels that are wrapped."""

    grid: Grid
    size: str
    wrapped: dict[int, float]


def text_points(text: Text, bold: bool = False) -> float:
    """The width of a text at 10 points."""
    total = 0.0
    for part in text:
        wide = sum(_POINTS.get(char, OTHER) for char in part.text)
        total += wide * (1.0 if part.place == "line" else 0.75)
    return total * (1.15 if bold else 1.0)


def fitted(grid: Grid, width: float = TEXT_WIDTH) -> list[Part]:
    """The parts of a grid, none wider than `width`, in its order."""
    pieces = [grid] if _fits(grid, SIZES[0], width) else _blocks(grid, width)
    return [part for piece in pieces for part in _sized(piece, width)]


def height(parts: Iterable[Part]) -> float:
    """Points that parts take below one another."""
    lines = {size: line for size, _, line in SIZES}
    return sum(lines[part.size] * (len(part.grid.head) + len(part.grid.body) + 2) for part in parts)


def _sized(grid: Grid, width: float) -> list[Part]:
    """One part in the largest size that fits; in the smallest, cut between columns."""
    for size in SIZES:
        if _fits(grid, size, width):
            return [Part(grid, size[0], _wrapped(grid, size, width))]
    return [
        Part(piece, SIZES[-1][0], _wrapped(piece, SIZES[-1], width))
        for piece in _columns(grid, width)
    ]


def _fits(grid: Grid, size: tuple[str, float, float], width: float) -> bool:
    return _total(grid, _widths(grid, size, width)) <= width


def labels(grid: Grid) -> int:
    """How many columns of labels stand before the numbers."""
    return len(grid.align) - len(grid.align.lstrip("l"))


def _wrapped(grid: Grid, size: tuple[str, float, float], width: float) -> dict[int, float]:
    """Columns of labels that are too wide, with the width they get."""
    limit = LABEL_SHARE * width
    natural = _natural(grid, size)
    return {
        column: limit for column, align in enumerate(grid.align)
        if align == "l" and natural[column] > limit
    }  # fmt: skip


def _widths(grid: Grid, size: tuple[str, float, float], width: float) -> list[float]:
    wrapped = _wrapped(grid, size, width)
    return [wrapped.get(c, natural) for c, natural in enumerate(_natural(grid, size))]


def _natural(grid: Grid, size: tuple[str, float, float]) -> list[float]:
    """Points of every column: what its own cells need, then what those that span it need on top."""
    widths = [0.0] * grid.width
    spans: list[tuple[int, Cell]] = []
    for line in (*grid.head, *grid.body):
        for column, cell in enumerate(line):
            if cell is not None and cell.columns > 1:
                spans.append((column, cell))
            elif cell is not None:
                widths[column] = max(widths[column], size[1] * text_points(cell.text, cell.bold))
    for column, cell in spans:
        own = slice(column, column + cell.columns)
        inner = COLUMN_SEPARATION * (cell.columns - 1)
        lacking = size[1] * text_points(cell.text, cell.bold) - sum(widths[own]) - inner
        widths[own] = [w + max(0.0, lacking) / cell.columns for w in widths[own]]
    return widths


def _total(grid: Grid, widths: Sequence[float]) -> float:
    return sum(widths) + COLUMN_SEPARATION * len(widths) + GAP * len(grid.gaps)


def _blocks(grid: Grid, width: float) -> list[Grid]:
    """A grid cut at its gaps; blocks with labels of their own stay together where they fit.

    Blocks without get those of the grid, and the lines in which they hold something.
    """
    starts = [0, *(gap + 1 for gap in sorted(grid.gaps))]
    blocks = [list(range(*ends)) for ends in zip(starts, [*starts[1:], grid.width], strict=True)]
    if all(grid.align[start] == "l" for start in starts):
        together: list[list[int]] = []
        for block in blocks:
            joined = [*together[-1], *block] if together else []
            if joined and _fits(_taken(grid, joined), SIZES[1], width):
                together[-1] = joined
            else:
                together.append(block)
        return [_taken(grid, columns) for columns in together]
    grid, stubs = _named(grid), list(range(labels(grid)))
    out = []
    for block in blocks:
        own = [column for column in block if column not in stubs]
        lines = [i for i, line in enumerate(grid.body) if not all(_empty(line[c]) for c in own)]
        out.append(_unnamed(_taken(grid, [*stubs, *own], lines)))
    return out


def _named(grid: Grid) -> Grid:
    """A grid with the first label of every line written out, where it stands once for several."""
    body: list[Line] = []
    for line in grid.body:
        blank = body and _empty(line[0]) and line[0] is not None
        body.append((body[-1][0], *line[1:]) if blank else line)
    return replace(grid, body=tuple(body))


def _unnamed(grid: Grid) -> Grid:
    """The inverse of `_named`: a first label that repeats the one above it is left blank."""
    if labels(grid) < 2:
        return grid
    body = [
        (BLANK, *line[1:]) if i and line[0] is not None and line[0] == grid.body[i - 1][0] else line
        for i, line in enumerate(grid.body)
    ]
    return replace(grid, body=tuple(body))


def _columns(grid: Grid, width: float) -> list[Grid]:
    """A grid cut between columns, as many in each part as fit in the smallest size."""
    widths = _widths(grid, SIZES[-1], width)
    stubs = list(range(labels(grid)))
    free = width - sum(widths[c] + COLUMN_SEPARATION for c in stubs)
    out: list[list[int]] = [[]]
    used = 0.0
    for column in range(len(stubs), grid.width):
        wide = widths[column] + COLUMN_SEPARATION
        if out[-1] and used + wide > free:
            out.append([])
            used = 0.0
        out[-1].append(column)
        used += wide
    return [_taken(grid, [*stubs, *own]) for own in out]


def _taken(grid: Grid, columns: Sequence[int], lines: Sequence[int] | None = None) -> Grid:
    """The grid of some columns and body lines; a cell that spans some of them spans these.

    Lines that hold nothing in these columns, labels neither, are left out.
    """
    known = range(len(grid.body)) if lines is None else lines
    kept = [i for i in known if not all(_empty(grid.body[i][c]) for c in columns)]
    head = [_line(line, columns) for line in grid.head]
    return Grid(
        "".join(grid.align[c] for c in columns),
        tuple(line for line in head if any(cell is not None for cell in line)),
        tuple(_line(grid.body[i], columns) for i in kept),
        frozenset(p for p, i in enumerate(kept) if _ruled(grid, kept[p:], i)),
        frozenset(p for p, c in enumerate(columns[:-1]) if c in grid.gaps),
    )


def _ruled(grid: Grid, left: Sequence[int], line: int) -> bool:
    """Whether a rule stands between a kept line and the next of those that are left."""
    end = left[1] if len(left) > 1 else line + 1
    return any(i in grid.rules for i in range(line, end))


def _empty(cell: Cell | None) -> bool:
    return cell is None or not cell.text


def _line(line: Line, columns: Sequence[int]) -> Line:
    out: list[Cell | None] = []
    owners = [_owner(line, column) for column in columns]
    for place, owner in enumerate(owners):
        if owner is None:
            out.append(None)
            continue
        cell = line[owner]
        assert cell is not None
        if place and owners[place - 1] == owner and cell.columns > 1:
            out.append(None)
        else:
            out.append(replace(cell, columns=max(1, owners.count(owner))))
    return tuple(out)


def _owner(line: Line, column: int) -> int | None:
    """The place of the cell that stands over a column; None where a cell above reaches down."""
    start = column
    while start > 0 and line[start] is None:
        start -= 1
    cell = line[start]
    return start if cell is not None and start + cell.columns > column else None
