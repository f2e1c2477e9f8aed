"""Fill a layout from a source of numbers, mark the best, and lay it out as a document of grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from oodbench.declare.layouts import Block, Column, Layout, Row, Select, merged
from oodbench.errors import ConfigError
from oodbench.leaderboards.rounding import as_shown, shown
from oodbench.tables.layout.grid import (
    BLANK,
    Cell,
    Document,
    Grid,
    Line,
    Panel,
    side_by_side,
    spanning,
    with_heading,
)
from oodbench.tables.layout.markup import parse
from oodbench.tables.sources.numbers import (
    RISING,
    Missing,
    Number,
    Source,
    decimals_of,
    number_text,
)


@dataclass(frozen=True)
class Filled:
    """One cell of a layout: where it stands, what it asks for, what was found."""

    block: str
    row: Row
    column: Column
    query: Select
    found: Number | Missing | str

    @property
    def number(self) -> Number | None:
        """The number, or None where there is none."""
        return self.found if isinstance(self.found, Number) else None

    @property
    def decimals(self) -> int:
        """Decimals it is shown with."""
        assert self.number is not None
        return decimals_of(self.number, self.query, self.column.decimals)

    def label(self, spread: bool = False) -> str:
        """What stands in the cell; `spread`: mean ± standard deviation where seeds are several."""
        if isinstance(self.found, Missing):
            return self.found.value
        if isinstance(self.found, str):
            return self.found
        text = number_text(self.found, self.decimals, self.column.scientific)
        if spread and self.found.sd is not None and not self.found.printed:
            text += f"±{shown(self.found.sd, self.decimals)}"
        return text

    @property
    def rank(self) -> float | None:
        """The shown value, greater = better; None where it takes no part in a comparison."""
        if self.number is None or "metric" not in self.query or not self.row.bold:
            return None
        number = self.number
        seen = number.value if number.printed else as_shown(number.value, self.decimals)
        return seen if self.query["metric"] in RISING else -seen


Rows: TypeAlias = list[list[Filled]]


def fill_block(layout: Layout, block: Block, source: Source, title: str) -> Rows:
    """The cells of a block with rows, one list per row of numbers."""
    rows: Rows = []
    for row in block.rows:
        if row.kind != "numbers":
            continue
        line = []
        for column in block.leaves:
            query = merged(block.select, row.select, column.select)
            fixed = layout.fixed(query)
            try:
                found = fixed if fixed is not None else source.number(query)
            except (KeyError, ConfigError) as error:
                raise ConfigError(
                    f"layout {layout.name}, row {row.label!r}: {_why(error)}"
                ) from error
            line.append(Filled(title, row, column, query, found))
        rows.append(line)
    return rows


def _why(error: Exception) -> str:
    return f"select lacks the key {error}" if isinstance(error, KeyError) else str(error)


def fill(layout: Layout, source: Source) -> Iterator[Filled]:
    """Every cell of a layout, block by block, row by row."""
    for outer in layout.blocks:
        for block in outer.basic():
            for line in fill_block(layout, block, source, outer.title):
                yield from line


def document(layout: Layout, source: Source, notes: Sequence[str] = ()) -> Document:
    """The table as printed: blocks of the top level stand below one another."""
    panels = tuple(
        Panel(_grid(layout, block, source, block.title), parse(block.title))
        for block in layout.blocks
    )
    return Document(layout.name, layout.title, panels, (*layout.notes, *notes))


def _grid(layout: Layout, block: Block, source: Source, title: str) -> Grid:
    if block.blocks:
        return side_by_side(
            [
                with_heading(_grid(layout, inner, source, inner.title), parse(inner.title))
                for inner in block.blocks
            ]
        )
    rows = fill_block(layout, block, source, title)
    best = best_cells(rows, by_group=block.bold == "group")
    numbers = iter(rows)
    width = len(block.stubs) + len(block.leaves)
    body: list[Line] = []
    rules = set()
    for index, row in enumerate(block.rows):
        if row.kind == "rule":
            rules.add(len(body) - 1)
        elif row.kind == "heading":
            heading = Cell(parse(row.label), italic=True)
            body.append((heading, *([BLANK] * (width - 1))))
        else:
            cells = [
                Cell(parse(cell.label(layout.spread)), bold=id(cell) in best)
                for cell in next(numbers)
            ]
            body.append((*_stubs(block, index), *cells))
    align = "l" * len(block.stubs) + "c" * len(block.leaves)
    return Grid(align, tuple(head_lines(block.stubs, block.columns)), tuple(body), frozenset(rules))


def _stubs(block: Block, index: int) -> list[Cell | None]:
    """The label cells of a row; the label of a group stands once and spans its rows."""
    row = block.rows[index]
    label = Cell(parse(row.label))
    if len(block.stubs) == 1:
        return [label]
    members = [i for i, other in enumerate(block.rows) if other.group == row.group]
    if index != members[0]:
        return [None, label]
    return [Cell(parse(row.group_label), rows=len(members)), label]


def head_lines(stubs: Sequence[str], columns: Sequence[Column]) -> list[Line]:
    """One line per level of the columns' titles; stub heads span all of them."""
    deep = max(_depth(column) for column in columns)
    lines: list[Line] = []
    for level in range(deep):
        line: list[Cell | None] = [
            Cell(parse(stub), rows=deep) if level == 0 else None for stub in stubs
        ]
        for column in columns:
            line += _level(column, level, deep)
        lines.append(tuple(line))
    return lines


def _depth(column: Column) -> int:
    return 1 + max((_depth(inner) for inner in column.columns), default=0)


def _level(column: Column, level: int, deep: int) -> list[Cell | None]:
    """The places of one head line above a column, `level` lines below its own title."""
    wide = len(column.leaves)
    if level == 0:
        rows = deep if not column.columns else 1
        cell = Cell(parse(column.title), columns=wide, rows=rows, centred=True)
        return list(spanning(cell))
    if not column.columns:
        return [None] * wide
    return [place for inner in column.columns for place in _level(inner, level - 1, deep - 1)]


def best_cells(rows: Rows, by_group: bool = False) -> set[int]:
    """`id` of every cell that is best of its column (and group); ties are all best.

    A column with fewer than two numbers has no best.
    """
    best: set[int] = set()
    groups: Callable[[Filled], int] = (lambda cell: cell.row.group) if by_group else lambda _: 0
    for column in zip(*rows, strict=True):
        for group in {groups(cell) for cell in column}:
            ranked = [
                (cell.rank, cell)
                for cell in column
                if groups(cell) == group and cell.rank is not None
            ]
            if len(ranked) > 1:
                top = max(rank for rank, _ in ranked)
                best |= {id(cell) for rank, cell in ranked if rank == top}
    return best
