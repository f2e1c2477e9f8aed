"""The model of a printed table: lines of cells with spans, rules and emphasis.

A `Grid` is a dense matrix: a cell that spans columns or rows stands at its first place, and the
places it covers hold None.  A `Document` is what a renderer gets: a title, one or more panels that
stand below one another, and notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from oodbench.tables.layout.markup import Text, plain


@dataclass(frozen=True)
class Cell:
    """Text that spans `columns` × `rows` places."""

    text: Text = ()
    columns: int = 1
    rows: int = 1
    bold: bool = False
    underlined: bool = False
    italic: bool = False
    centred: bool = False


Line: TypeAlias = tuple[Cell | None, ...]
BLANK = Cell()


@dataclass(frozen=True)
class Grid:
    """Head and body lines of equal width.

    `align` holds "l", "c" or "r" per column; `rules` the body lines below which a rule stands;
    `gaps` the columns after which a wider gap stands (between blocks side by side).
    """

    align: str
    head: tuple[Line, ...]
    body: tuple[Line, ...]
    rules: frozenset[int] = frozenset()
    gaps: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for line in (*self.head, *self.body):
            if len(line) != len(self.align):
                raise ValueError(f"a line has {len(line)} places, the grid {len(self.align)}")

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.align)


@dataclass(frozen=True)
class Panel:
    """A grid with a title of its own, which may be empty."""

    grid: Grid
    title: Text = ()


@dataclass(frozen=True)
class Document:
    """A table ready to be rendered; `name` serves as its label."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()


def spanning(cell: Cell) -> Line:
    """A cell and the places of its own line that it covers."""
    return (cell, *([None] * (cell.columns - 1)))


def side_by_side(grids: Sequence[Grid], gap: bool = True) -> Grid:
    """Grids next to one another: heads end on one line, bodies start on one line."""
    deep = max(len(g.head) for g in grids)
    long = max(len(g.body) for g in grids)
    head: list[Line] = [()] * deep
    body: list[Line] = [()] * long
    gaps, offset = set(), 0
    for grid in grids:
        blank: Line = (BLANK,) * grid.width
        padded = (*((blank,) * (deep - len(grid.head))), *grid.head)
        head = [(*line, *more) for line, more in zip(head, padded, strict=True)]
        filled = (*grid.body, *((blank,) * (long - len(grid.body))))
        body = [(*line, *more) for line, more in zip(body, filled, strict=True)]
        gaps |= {offset + column for column in grid.gaps}
        offset += grid.width
        if gap and grid is not grids[-1]:
            gaps.add(offset - 1)
    return Grid(
        "".join(g.align for g in grids), tuple(head), tuple(body),
        frozenset().union(*(g.rules for g in grids)), frozenset(gaps),
    )  # fmt: skip


def with_heading(grid: Grid, title: Text) -> Grid:
    """The grid under one head cell that spans it; the grid itself where the title is empty."""
    if not title:
        return grid
    line = spanning(Cell(title, columns=grid.width, centred=True))
    return replace(grid, head=(line, *grid.head))


def flat_head(grid: Grid) -> list[str]:
    """One plain title per column: the titles of all head lines above it, outermost first."""
    titles = []
    for column in range(grid.width):
        seen: list[str] = []
        for line in grid.head:
            owner = next(c for c in range(column, -1, -1) if line[c] is not None or c == 0)
            cell = line[owner]
            if cell is not None and owner + cell.columns > column and cell.text:
                seen.append(plain(cell.text))
        titles.append(" ".join(seen))
    return titles


def flat_line(line: Line) -> list[str]:
    """Plain text per place of a line, "" where a place is blank or covered."""
    return [plain(cell.text) if cell is not None else "" for cell in line]


def middle(body: Sequence[Line]) -> list[Line]:
    """The body with every cell that spans rows moved to the middle line of its span."""
    lines = [list(line) for line in body]
    for index, line in enumerate(body):
        for column, cell in enumerate(line):
            if cell is not None and cell.rows > 1:
                lines[index][column] = BLANK
                lines[index + (cell.rows - 1) // 2][column] = replace(cell, rows=1)
    return [tuple(BLANK if cell is None else cell for cell in line) for line in lines]
