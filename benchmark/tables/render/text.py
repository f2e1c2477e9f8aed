"""A document as text for a terminal, in columns; bold and underline only where they are wanted."""

from __future__ import annotations

import textwrap
from dataclasses import replace

from oodbench.media import terminal, terminal_lines
from oodbench.output_encoding import spelled
from oodbench.tables.layout.grid import BLANK, Cell, Document, Grid, Line, middle
from oodbench.tables.layout.markup import Text
from oodbench.tables.layout.markup import plain as plain_text
from oodbench.tables.render.narrow import narrowed

GAP, WIDE_GAP = 2, 4
BOLD, UNDERLINE, ITALIC, RESET = "\x1b[1m", "\x1b[4m", "\x1b[3m", "\x1b[0m"


def render_text(document: Document, styled: bool = False, width: int | None = None) -> str:
    """Title, panels, notes; `styled` writes emphasis as terminal escapes.

    Columns that do not fit into `width` places are left out, and a note says which.
    """
    if width is not None:
        document = narrowed(document, width, lambda grid: _Printer(grid, styled).total)
        document = replace(document, notes=tuple(_folded(note, width) for note in document.notes))
    parts = [spelled(terminal(document.title)), ""]
    for panel in document.panels:
        if panel.title:
            parts.append(plain(panel.title))
        parts += [*_Printer(panel.grid, styled).lines(), ""]
    shown = terminal if width is None else terminal_lines
    notes = [spelled(shown(note)) for note in document.notes]
    return "\n".join([*parts, *notes]).rstrip("\n") + "\n"


def _folded(note: str, width: int) -> str:
    lines = textwrap.wrap(terminal(note), width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def plain(text: Text) -> str:
    """A text as a terminal takes it, in the characters that it has."""
    return spelled(terminal(plain_text(text)))


class _Printer:
    def __init__(self, grid: Grid, styled: bool) -> None:
        self.grid, self.styled = grid, styled
        self.body = middle(grid.body)
        self.widths = self._widths()
        self.total = self._span(0, grid.width)

    def _widths(self) -> list[int]:
        """Column widths: what the single cells need, then what spanning ones need on top."""
        widths = [0] * self.grid.width
        spans: list[tuple[int, Cell]] = []
        for line in (*self.grid.head, *self.body):
            for column, cell in enumerate(line):
                if cell is None:
                    continue
                if cell.columns == 1:
                    widths[column] = max(widths[column], len(plain(cell.text)))
                else:
                    spans.append((column, cell))
        self.widths = widths
        for column, cell in sorted(spans, key=lambda item: item[1].columns):
            lacking = len(plain(cell.text)) - self._span(column, cell.columns)
            for extra in range(max(0, lacking)):
                widths[column + cell.columns - 1 - extra % cell.columns] += 1
        return widths

    def _gap(self, column: int) -> int:
        return WIDE_GAP if column in self.grid.gaps else GAP

    def _span(self, start: int, count: int) -> int:
        """Characters of `count` columns and the gaps between them."""
        inner = sum(self._gap(c) for c in range(start, start + count - 1))
        return sum(self.widths[start : start + count]) + inner

    def lines(self) -> list[str]:
        """The whole grid."""
        out = ["─" * self.total]
        for index, line in enumerate(self.grid.head):
            out.append(self._line(self._settled(index, line)))
            if any(cell is not None and cell.columns > 1 for cell in line):
                out.append(self._underlines(line))
        out.append("─" * self.total)
        for index, line in enumerate(self.body):
            out.append(self._line(line))
            if index in self.grid.rules:
                out.append("─" * self.total)
        if len(self.body) - 1 not in self.grid.rules:
            out.append("─" * self.total)
        return [text.rstrip() for text in out]

    def _settled(self, index: int, line: Line) -> Line:
        """A head line with the cells that end on it; those that go on below stay blank here."""
        cells = list(line)
        for column in range(self.grid.width):
            for start in range(index, -1, -1):
                cell = self.grid.head[start][column]
                if cell is not None and cell.rows > 1:
                    if start + cell.rows - 1 == index:
                        cells[column] = cell
                    elif start == index:
                        cells[column] = BLANK
                    break
        return tuple(cells)

    def _line(self, line: Line) -> str:
        text, column = "", 0
        while column < self.grid.width:
            cell = line[column] or BLANK
            width = self._span(column, cell.columns)
            text += self._placed(cell, width, self.grid.align[column])
            column += cell.columns
            text += " " * self._gap(column - 1)
        return text

    def _placed(self, cell: Cell, width: int, align: str) -> str:
        shown = plain(cell.text)
        left = {"l": 0, "c": (width - len(shown)) // 2, "r": width - len(shown)}[
            "c" if cell.centred and cell.columns > 1 else align
        ]
        right = width - len(shown) - left
        if self.styled and shown:
            codes = (cell.bold, BOLD), (cell.underlined, UNDERLINE), (cell.italic, ITALIC)
            start = "".join(code for wanted, code in codes if wanted)
            shown = f"{start}{shown}{RESET}" if start else shown
        return " " * left + shown + " " * right

    def _underlines(self, line: Line) -> str:
        text = ""
        for column in range(self.grid.width):
            inside = self._in_span(line, column)
            last = column + 1 == self.grid.width or line[column + 1] is not None
            text += ("─" if inside else " ") * self.widths[column]
            text += ("─" if inside and not last else " ") * self._gap(column)
        return text

    @staticmethod
    def _in_span(line: Line, column: int) -> bool:
        """Whether a cell that spans columns stands over this one."""
        start = column
        while start > 0 and line[start] is None:
            start -= 1
        cell = line[start]
        return cell is not None and cell.columns > 1 and start + cell.columns > column
