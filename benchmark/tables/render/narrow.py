"""A document in the width of a terminal: columns are left out, and a note says which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from oodbench.tables.layout.grid import Document, Grid, Line, flat_head

#: Heads of the columns that go first; after them whole columns go from the right.
SPARE = ("FPR80", "FPR95", "AUPRC")


def narrowed(document: Document, limit: int, width: Callable[[Grid], int]) -> Document:
    """The document with every panel at most `limit` wide by `width`, as far as columns can go.

    The first column and those of text beside it stay.
    """
    gone: dict[str, None] = {}
    panels = []
    for panel in document.panels:
        grid = panel.grid
        while width(grid) > limit and (column := _spared(grid)) is not None:
            gone[flat_head(grid)[column] or f"column {column + 1}"] = None
            grid = without_column(grid, column)
        panels.append(replace(panel, grid=grid))
    if not gone:
        return document
    note = f"Left out on this width (--wide shows all): {', '.join(gone)}."
    return replace(document, panels=tuple(panels), notes=(note, *document.notes))


def _spared(grid: Grid) -> int | None:
    """The column that goes next; None where none can."""
    labels = len(grid.align) - len(grid.align.lstrip("l")) or 1
    candidates = range(max(1, labels), grid.width)
    if len(candidates) < 2:
        return None
    titles = flat_head(grid)
    for spare in SPARE:
        found = [c for c in candidates if titles[c].split(" ")[-1].startswith(spare)]
        if found:
            return found[-1]
    return candidates[-1]


def without_column(grid: Grid, column: int) -> Grid:
    """The grid without a column; a cell that spans more than that one is narrowed."""
    gaps = {c - (c > column) for c in grid.gaps - {column}}
    if column in grid.gaps and column > 0:
        gaps.add(column - 1)
    return Grid(
        grid.align[:column] + grid.align[column + 1 :],
        tuple(_without(line, column) for line in grid.head),
        tuple(_without(line, column) for line in grid.body),
        grid.rules,
        frozenset(gap for gap in gaps if gap < grid.width - 2),
    )


def _without(line: Line, column: int) -> Line:
    cells = list(line)
    cell = cells[column]
    if cell is not None and cell.columns > 1:
        cells[column + 1] = replace(cell, columns=cell.columns - 1)
    elif cell is None:
        start = next((c for c in range(column, -1, -1) if cells[c] is not None), column)
        owner = cells[start]
        if owner is not None and start + owner.columns > column:
            cells[start] = replace(owner, columns=owner.columns - 1)
    del cells[column]
    return tuple(cells)
