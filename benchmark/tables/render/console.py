"""A boxed table for the console, in the width that there is.

Cells are single lines of known width, so that a line of the table is two or three segments, also in
bodies of thousands of lines.  Where the console is too narrow, columns that the table can spare are
left out, which the caption says; then names are wrapped.  A number is never cut or broken.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich.box import HEAVY_HEAD
from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from oodbench.media import terminal
from oodbench.output_encoding import spelled

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

Justify: TypeAlias = Literal["left", "right"]
BOLD = Style(bold=True)
#: Characters to which a column of names is narrowed before a column of numbers is left out.
NAME_WIDTH = 24
UNLIMITED = 1 << 30
LEAST_WIDTH = 8


@dataclass
class Boxed:
    """Title, columns (head, justification), rows of (text, bold) cells, caption.

    `spare`: heads of the columns that a narrow console does without, the first to go first.
    `no_wrap` is False where cells of numbers are lists that may go on in a next line.
    """

    title: str
    columns: Sequence[tuple[str, Justify]]
    caption: str
    no_wrap: bool = True
    spare: Sequence[str] = ()
    rows: list[Sequence[tuple[str, bool]]] = field(default_factory=list)
    sections: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.title, self.caption = shown_line(self.title), shown_line(self.caption)
        self.columns = [(shown_line(head), justify) for head, justify in self.columns]
        self.spare = [shown_line(head) for head in self.spare]

    def add(self, *cells: str, bold: Sequence[int] = ()) -> None:
        """A row; `bold` lists the columns set in bold."""
        self.rows.append([(shown_line(text), i in bold) for i, text in enumerate(cells)])

    def end_section(self) -> None:
        """A line below the last row."""
        self.sections.add(len(self.rows) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        measure = self._measure()
        natural = [
            max([measure(head), *(measure(row[i][0]) for row in self.rows)])
            for i, (head, _) in enumerate(self.columns)
        ]
        least = [self._least(i, width, measure) for i, width in enumerate(natural)]
        # Where nothing limits a line, in a pipe or a file, whoever reads it gets all of it, also
        # where FORCE_COLOR has rich take a pipe for a terminal.
        limited = console.is_terminal and console.file.isatty()
        limit = options.max_width if limited else UNLIMITED
        kept, gone = self._kept(least, limit)
        widths = _narrowed(
            [natural[i] for i in kept], [least[i] for i in kept], limit,
            [i for i, k in enumerate(kept) if self.columns[k][1] == "left"],
        )  # fmt: skip
        total = _total(widths)
        inner = options.update(width=total, justify="left")
        if self.title:
            yield from console.render(Text(self.title, "table.title"), inner)
        yield from self._lines(kept, widths, console.get_style("table.header"), measure)
        left_out = f"left out on this width (--wide shows all): {', '.join(gone)}" if gone else ""
        caption = "; ".join(part for part in (left_out, self.caption) if part)
        if caption:
            yield from console.render(Text(caption, "table.caption"), inner)

    def _measure(self) -> Callable[[str], int]:
        """How wide a text is: `len` where every character of the table is one place wide."""
        texts = [head for head, _ in self.columns]
        single = all(cell_len(text) == len(text) for text in texts) and all(
            cell_len(text) == len(text) for row in self.rows for text, _ in row
        )
        return len if single else cell_len

    def _least(self, column: int, natural: int, measure: Callable[[str], int]) -> int:
        """Places that a column needs before another is left out for it."""
        if self.columns[column][1] == "left":
            return min(natural, NAME_WIDTH)
        if self.no_wrap:
            return natural
        texts = [self.columns[column][0], *(row[column][0] for row in self.rows)]
        return max([measure(word) for text in texts for word in text.split()], default=0)

    def _kept(self, least: Sequence[int], limit: int) -> tuple[list[int], list[str]]:
        """Columns that are shown, and the heads of those that are not, in the table's order."""
        kept, gone = list(range(len(least))), set()
        for head in self.spare:
            found = [i for i in kept if self.columns[i][0] == head]
            if found and _total([least[i] for i in kept]) > limit:
                kept.remove(found[0])
                gone.add(found[0])
        return kept, [self.columns[i][0] for i in sorted(gone)]

    def _lines(
        self, kept: Sequence[int], widths: Sequence[int], head_style: Style,
        measure: Callable[[str], int],
    ) -> RenderResult:  # fmt: skip
        padded = [w + (i > 0) + (i < len(widths) - 1) for i, w in enumerate(widths)]
        box = HEAVY_HEAD
        sides = [self.columns[i][1] for i in kept]
        heads = [(self.columns[i][0], True) for i in kept]
        section = box.get_row(padded, "row") + "\n"
        yield Segment(box.get_top(padded) + "\n")
        for line in _wrapped(heads, widths, measure):
            yield from _line(line, widths, sides, box.head_left, box.head_vertical, head_style,
                             measure)  # fmt: skip
        yield Segment(box.get_row(padded, "head") + "\n")
        for index, row in enumerate(self.rows):
            for line in _wrapped([row[i] for i in kept], widths, measure):
                yield from _line(line, widths, sides, box.mid_left, box.mid_vertical, BOLD, measure)
            if index in self.sections and index < len(self.rows) - 1:
                yield Segment(section)
        yield Segment(box.get_bottom(padded) + "\n")


def shown_line(text: str) -> str:
    """One line as a terminal takes it, in the characters that it has."""
    return spelled(terminal(text))


def _total(widths: Sequence[int]) -> int:
    """A blank on each side of every cell but at the outer edges, and a bar beside each."""
    return sum(widths) + 2 * (len(widths) - 1) + len(widths) + 1


def _narrowed(
    natural: Sequence[int], least: Sequence[int], limit: int, names: Sequence[int]
) -> list[int]:
    """Widths within `limit` where that is possible: the widest goes first, names below `least`."""
    widths = list(natural)
    floors = list(least)
    while (over := _total(widths) - limit) > 0:
        loose = [i for i, width in enumerate(widths) if width > floors[i]]
        if not loose:
            lower = [i for i in names if floors[i] > LEAST_WIDTH]
            if not lower:
                break
            for i in lower:
                floors[i] = LEAST_WIDTH
            continue
        widest = max(loose, key=lambda i: widths[i])
        widths[widest] -= min(over, widths[widest] - floors[widest], 1)
    return widths


def _wrapped(
    cells: Sequence[tuple[str, bool]], widths: Sequence[int], measure: Callable[[str], int]
) -> list[list[tuple[str, bool]]]:
    """The lines of a row: one, unless a cell is wider than its column."""
    if all(measure(text) <= width for (text, _), width in zip(cells, widths, strict=True)):
        return [list(cells)]
    parts = [_parts(text, width, measure) for (text, _), width in zip(cells, widths, strict=True)]
    deep = max(map(len, parts))
    return [
        [(part[i] if i < len(part) else "", bold) for part, (_, bold) in zip(parts, cells,
                                                                          strict=True)]
        for i in range(deep)
    ]  # fmt: skip


def _parts(text: str, width: int, measure: Callable[[str], int]) -> list[str]:
    if measure(text) <= width:
        return [text]
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in chop_cells(line, max(2, width))]


def _line(
    cells: Sequence[tuple[str, bool]], widths: Sequence[int], sides: Sequence[Justify], edge: str,
    bar: str, style: Style, measure: Callable[[str], int],
) -> RenderResult:  # fmt: skip
    text = edge
    for i, ((shown, bold), width, side) in enumerate(zip(cells, widths, sides, strict=True)):
        text += " " if i else ""
        blank = " " * (width - measure(shown))
        left, right = ("", blank) if side == "left" else (blank, "")
        if bold and shown:
            yield Segment(text + left)
            yield Segment(shown, style)
            text = right
        else:
            text += left + shown + right
        text += f" {bar}" if i < len(widths) - 1 else edge
    yield Segment(text + "\n")
