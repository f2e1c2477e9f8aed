"""A boxed table for the console, as rich draws it, for bodies of thousands of lines.

rich measures and wraps every cell; these cells are single lines of known width, so that a line of
the table is two or three segments.  Where the table is wider than the console, rich's own table
takes over and shortens what does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from oodbench.media import terminal

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Justify: TypeAlias = Literal["left", "right"]
BOLD = Style(bold=True)


@dataclass
class Boxed:
    """Title, columns (head, justification), rows of (text, bold) cells, caption."""

    title: str
    columns: Sequence[tuple[str, Justify]]
    caption: str
    no_wrap: bool = True
    rows: list[Sequence[tuple[str, bool]]] = field(default_factory=list)
    sections: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.title, self.caption = terminal(self.title), terminal(self.caption)
        self.columns = [(terminal(head), justify) for head, justify in self.columns]

    def add(self, *cells: str, bold: Sequence[int] = ()) -> None:
        """A row; `bold` lists the columns set in bold."""
        self.rows.append([(terminal(text), i in bold) for i, text in enumerate(cells)])

    def end_section(self) -> None:
        """A line below the last row."""
        self.sections.add(len(self.rows) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max([len(head), *(len(row[i][0]) for row in self.rows)])
            for i, (head, _) in enumerate(self.columns)
        ]
        # A blank on each side of every cell but at the outer edges, and a bar beside each.
        total = sum(widths) + 2 * (len(widths) - 1) + len(widths) + 1
        if total > options.max_width or options.ascii_only or not self._single():
            yield self._rich_table()
            return
        inner = options.update(width=total)
        if self.title:
            yield from console.render(
                Text(self.title, "table.title", justify="left"), inner.update(justify="left")
            )
        yield from self._lines(widths, console.get_style("table.header"))
        if self.caption:
            yield from console.render(
                Text(self.caption, "table.caption", justify="left"), inner.update(justify="left")
            )

    def _single(self) -> bool:
        """Whether every character of the body is one place wide."""
        return all(cell_len(text) == len(text) for row in self.rows for text, _ in row)

    def _lines(self, widths: Sequence[int], head_style: Style) -> RenderResult:
        padded = [w + (i > 0) + (i < len(widths) - 1) for i, w in enumerate(widths)]
        box = HEAVY_HEAD
        heads = [(head, True) for head, _ in self.columns]
        section = box.get_row(padded, "row") + "\n"
        yield Segment(box.get_top(padded) + "\n")
        yield from self._row(heads, widths, box.head_left, box.head_vertical, head_style)
        yield Segment(box.get_row(padded, "head") + "\n")
        for index, row in enumerate(self.rows):
            yield from self._row(row, widths, box.mid_left, box.mid_vertical, BOLD)
            if index in self.sections and index < len(self.rows) - 1:
                yield Segment(section)
        yield Segment(box.get_bottom(padded) + "\n")

    def _row(
        self, cells: Sequence[tuple[str, bool]], widths: Sequence[int], edge: str, bar: str,
        style: Style,
    ) -> RenderResult:  # fmt: skip
        text = edge
        for i, ((shown, bold), width) in enumerate(zip(cells, widths, strict=True)):
            text += " " if i else ""
            blank = " " * (width - len(shown))
            left, right = ("", blank) if self.columns[i][1] == "left" else (blank, "")
            if bold and shown:
                yield Segment(text + left)
                yield Segment(shown, style)
                text = right
            else:
                text += left + shown + right
            text += f" {bar}" if i < len(widths) - 1 else edge
        yield Segment(text + "\n")

    def _rich_table(self) -> Table:
        table = Table(title=Text(self.title), caption=Text(self.caption), title_justify="left",
                      caption_justify="left", pad_edge=False)  # fmt: skip
        for head, justify in self.columns:
            table.add_column(Text(head), justify=justify, no_wrap=self.no_wrap)
        for index, row in enumerate(self.rows):
            table.add_row(
                *(Text(text, "bold" if bold else "") for text, bold in row),
                end_section=index in self.sections,
            )
        return table
