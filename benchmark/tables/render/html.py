"""A document as HTML: a figure with one table per panel, or a page of its own."""

from __future__ import annotations

from oodbench.media import html_text
from oodbench.tables.layout.grid import Cell, Document, Grid, Line
from oodbench.tables.layout.markup import Text

STYLE = """\
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: .6em 0 1em; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; text-align: center; white-space: nowrap; }
thead th { font-weight: 600; }
tbody th { font-weight: inherit; }
.l { text-align: left; }
.r { text-align: right; }
.gap { padding-right: 2.2em; }
thead { border-top: 2px solid; border-bottom: 1px solid; }
tbody { border-bottom: 2px solid; }
tr.rule { border-bottom: 1px solid; }
th[colspan] { border-bottom: 1px solid #999; }
figcaption, caption { text-align: left; font-weight: 600; }
ul { color: #555; max-width: 60em; padding-left: 1.2em; }"""


def render_html(document: Document) -> str:
    """A ``figure`` element, for a page of somebody's own."""
    tables = "\n".join(_table(panel.grid, panel.title) for panel in document.panels)
    notes = "".join(f"<li>{html_text(note)}</li>" for note in document.notes)
    notes = f"\n<ul>{notes}</ul>" if notes else ""
    return (
        f'<figure id="{html_text(document.name)}">\n'
        f"<figcaption>{html_text(document.title)}</figcaption>"
        f"\n{tables}{notes}\n</figure>\n"
    )


def html_page(document: Document) -> str:
    """A whole page that needs nothing from elsewhere."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html_text(document.title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"{render_html(document)}</body>\n</html>\n"
    )


def _table(grid: Grid, title: Text) -> str:
    caption = f"<caption>{_text(title)}</caption>\n" if title else ""
    head = "\n".join(_line(grid, line, True) for line in grid.head)
    body = "\n".join(_line(grid, line, False, i in grid.rules) for i, line in enumerate(grid.body))
    return f"<table>\n{caption}<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _line(grid: Grid, line: Line, head: bool, ruled: bool = False) -> str:
    cells = "".join(
        _cell(grid, column, cell, _scope(grid, column, cell, head))
        for column, cell in enumerate(line)
        if cell is not None
    )
    return f'<tr class="rule">{cells}</tr>' if ruled else f"<tr>{cells}</tr>"


def _scope(grid: Grid, column: int, cell: Cell, head: bool) -> str:
    """What a header cell is the header of; "" for a cell of data."""
    if not cell.text:
        return ""
    if head:
        return "colgroup" if cell.columns > 1 else "col"
    if not grid.align[: column + 1].strip("l"):
        return "rowgroup" if cell.rows > 1 else "row"
    return ""


def _cell(grid: Grid, column: int, cell: Cell, scope: str) -> str:
    align = "c" if cell.centred else grid.align[column]
    classes = [align] if align != "c" else []
    classes += ["gap"] if column + cell.columns - 1 in grid.gaps else []
    attributes = f' scope="{scope}"' if scope else ""
    attributes += f' class="{" ".join(classes)}"' if classes else ""
    attributes += f' colspan="{cell.columns}"' if cell.columns > 1 else ""
    attributes += f' rowspan="{cell.rows}"' if cell.rows > 1 else ""
    text = _text(cell.text)
    for wanted, name in ((cell.underlined, "u"), (cell.italic, "i"), (cell.bold, "b")):
        text = f"<{name}>{text}</{name}>" if wanted else text
    tag = "th" if scope else "td"
    return f"<{tag}{attributes}>{text}</{tag}>"


def _text(text: Text) -> str:
    tags = {"below": "sub", "above": "sup"}
    return "".join(
        f"<{tags[part.place]}>{html_text(part.text)}</{tags[part.place]}>"
        if part.place in tags
        else html_text(part.text)
        for part in text
    )
