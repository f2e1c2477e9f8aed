"""A document as GitHub-flavoured Markdown: one pipe table per panel, head lines joined to one."""

from __future__ import annotations

from oodbench.media import markdown
from oodbench.tables.layout.grid import BLANK, Cell, Document, Grid, flat_head, middle
from oodbench.tables.layout.markup import Text, plain

MARKS = {"l": ":---", "c": ":---:", "r": "---:"}


def render_markdown(document: Document) -> str:
    """Title in bold, panels, notes as a list; ends with a line break."""
    parts = [f"**{markdown(document.title)}**"]
    for panel in document.panels:
        if panel.title:
            parts.append(f"*{_text(panel.title)}*")
        parts.append("\n".join(_lines(panel.grid)))
    if document.notes:
        parts.append("\n".join(f"- {markdown(note)}" for note in document.notes))
    return "\n\n".join(parts) + "\n"


def _lines(grid: Grid) -> list[str]:
    lines = [
        _row([markdown(title) for title in flat_head(grid)]),
        _row([MARKS[a] for a in grid.align]),
    ]
    lines += [_row([_cell(cell or BLANK) for cell in line]) for line in middle(grid.body)]
    return lines


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    if not text:
        return ""
    text = f"<u>{text}</u>" if cell.underlined else text
    text = f"*{text}*" if cell.italic else text
    return f"**{text}**" if cell.bold else text


def _text(text: Text) -> str:
    return markdown(plain(text))
