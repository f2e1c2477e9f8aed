"""A document as LaTeX that fits the page: a ``table``, or ``longtable``s where it is taller.

It needs booktabs and multirow, and longtable and array where its first line says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from oodbench.media import latex
from oodbench.tables.layout.grid import Cell, Document, Line
from oodbench.tables.layout.markup import Part as Piece
from oodbench.tables.layout.markup import Text, literal
from oodbench.tables.render.latex_fit import (
    SIZES,
    TEXT_HEIGHT,
    TEXT_WIDTH,
    Part,
    fitted,
    height,
    text_points,
)

WIDE = "@{\\hspace{2em}}"
#: What a float may take of a page, the rest is room for the caption.
FLOAT_SHARE = 0.85


def render_latex(document: Document) -> str:
    """Every panel as tabulars that fit the width; notes stand below in small type."""
    panels = [(panel.title, fitted(panel.grid)) for panel in document.panels]
    parts = [part for _, own in panels for part in own]
    tall = height(parts) + 20.0 * len(parts) + _notes_height(document.notes)
    label = f"\\label{{tab:{''.join(c if c.isalnum() else '-' for c in document.name)}}}"
    caption = f"\\caption{{{latex(document.title)}}}{label}"
    needed = ["booktabs", "multirow"] + ["array"] * any(part.wrapped for part in parts)
    floats = tall <= FLOAT_SHARE * TEXT_HEIGHT
    needed += [] if floats else ["longtable"]
    head = "% needs " + " ".join(f"\\usepackage{{{name}}}" for name in needed)
    lines = _float(panels, caption, document.notes) if floats else (
        _long(panels, caption, document.notes)
    )  # fmt: skip
    return "\n".join([head, *lines]) + "\n"


Panels = Sequence[tuple[Text, Sequence[Part]]]


def _notes_height(notes: Sequence[str]) -> float:
    size, line = SIZES[1][1:]
    return sum(4 + line * math.ceil(size * text_points(literal(note)) / TEXT_WIDTH)
               for note in notes)  # fmt: skip


def _notes(notes: Sequence[str]) -> list[str]:
    return [f"\\par\\smallskip{{\\footnotesize\\raggedright {latex(note)}\\par}}" for note in notes]


def _float(panels: Panels, caption: str, notes: Sequence[str]) -> list[str]:
    lines = ["\\begin{table}[htbp]", "\\centering", caption, "\\setlength{\\tabcolsep}{4pt}"]
    first = True
    for title, parts in panels:
        for number, part in enumerate(parts):
            lines += [] if first else ["\\par\\medskip"]
            lines.append(part.size)
            if title and not number:
                lines.append(f"{_text(title)}\\par\\smallskip")
            lines += [f"\\begin{{tabular}}{{{_columns(part)}}}", "\\toprule",
                      *_head(part), "\\midrule", *_body(part), "\\bottomrule",
                      "\\end{tabular}"]  # fmt: skip
            first = False
    return [*lines, *_notes(notes), "\\end{table}"]


def _long(panels: Panels, caption: str, notes: Sequence[str]) -> list[str]:
    """The first longtable bears the caption; heads are repeated on every page."""
    lines = [
        "\\begingroup",
        "\\setlength{\\tabcolsep}{4pt}",
        "\\setlength{\\LTcapwidth}{\\textwidth}",
    ]
    first = True
    for title, parts in panels:
        for number, part in enumerate(parts):
            lines.append(f"{part.size}\\begin{{longtable}}{{{_columns(part)}}}")
            lines += [f"{caption}\\\\"] if first else []
            above = ["\\toprule"]
            if title:
                again = "" if not number else " (continued)"
                above = [f"\\multicolumn{{{part.grid.width}}}{{l}}{{{_text(title)}{again}}}\\\\",
                         "\\toprule"]  # fmt: skip
            head = [*_head(part), "\\midrule"]
            lines += [*above, *head, "\\endfirsthead", "\\toprule", *head, "\\endhead",
                      "\\bottomrule", "\\endfoot", *_body(part), "\\end{longtable}"]  # fmt: skip
            # A longtable counts as a table, with a caption or without one.
            lines += [] if first else ["\\addtocounter{table}{-1}"]
            first = False
    return [*lines, *_notes(notes), "\\endgroup"]


def _columns(part: Part) -> str:
    """The preamble of a tabular: ``ll@{\\hspace{2em}}cc``."""
    columns = ""
    for column, align in enumerate(part.grid.align):
        if column in part.wrapped:
            align = f">{{\\raggedright\\arraybackslash}}p{{{part.wrapped[column]:.0f}pt}}"
        columns += align + (WIDE if column in part.grid.gaps else "")
    return columns


def _head(part: Part) -> list[str]:
    lines = []
    for line in part.grid.head:
        lines.append(_line(part, line))
        rules = _partial_rules(line)
        lines += [rules] if rules else []
    return lines


def _body(part: Part) -> list[str]:
    grid, lines = part.grid, []
    for index, line in enumerate(grid.body):
        lines.append(_line(part, line))
        if index in grid.rules and index < len(grid.body) - 1:
            lines.append("\\midrule")
    return lines


def _line(part: Part, line: Line) -> str:
    cells, column = [], 0
    while column < len(line):
        cell = line[column]
        cells.append("" if cell is None else _cell(part, column, cell))
        column += 1 if cell is None else cell.columns
    return " & ".join(cells).rstrip() + " \\\\"


def _partial_rules(line: Sequence[Cell | None]) -> str:
    """A thin rule under every head cell that spans columns."""
    return "".join(
        f"\\cmidrule(lr){{{column + 1}-{column + cell.columns}}}"
        for column, cell in enumerate(line)
        if cell is not None and cell.columns > 1 and cell.text
    )


def _cell(part: Part, column: int, cell: Cell) -> str:
    text = _text(cell.text)
    if text:
        text = f"\\underline{{{text}}}" if cell.underlined else text
        text = f"\\textit{{{text}}}" if cell.italic else text
        text = f"\\textbf{{{text}}}" if cell.bold else text
    if cell.rows > 1:
        width = "=" if column in part.wrapped else "*"
        text = f"\\multirow{{{cell.rows}}}{{{width}}}{{{text}}}"
    if cell.columns > 1:
        align = "c" + (WIDE if column + cell.columns - 1 in part.grid.gaps else "")
        text = f"\\multicolumn{{{cell.columns}}}{{{align}}}{{{text}}}"
    return text


def _text(text: Text) -> str:
    return "".join(_piece(piece) for piece in text)


def _piece(piece: Piece) -> str:
    if piece.place == "line":
        return latex(piece.text)
    command = "\\textsubscript" if piece.place == "below" else "\\textsuperscript"
    return f"{command}{{{latex(piece.text)}}}"
