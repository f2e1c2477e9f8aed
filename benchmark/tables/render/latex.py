"""A document as LaTeX: a table environment that needs booktabs and multirow and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from oodbench.media import latex
from oodbench.tables.layout.grid import Cell, Document, Grid, Line
from oodbench.tables.layout.markup import Part, Text

WIDE = "@{\\hspace{2em}}"


def render_latex(document: Document) -> str:
    """One ``table`` with a tabular per panel; notes stand below in small type."""
    parts = [
        "% needs \\usepackage{booktabs} and \\usepackage{multirow}",
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{latex(document.title)}}}",
        f"\\label{{tab:{''.join(c if c.isalnum() else '-' for c in document.name)}}}",
        "\\small",
        "\\setlength{\\tabcolsep}{4pt}",
    ]
    for index, panel in enumerate(document.panels):
        parts += ["\\par\\medskip"] if index else []
        if panel.title:
            parts.append(f"{_text(panel.title)}\\par\\smallskip")
        parts += _tabular(panel.grid)
    for note in document.notes:
        parts.append(f"\\par\\smallskip{{\\footnotesize {latex(note)}\\par}}")
    return "\n".join([*parts, "\\end{table}"]) + "\n"


def _tabular(grid: Grid) -> list[str]:
    columns = ""
    for column, align in enumerate(grid.align):
        columns += align + (WIDE if column in grid.gaps else "")
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    for line in grid.head:
        lines.append(_line(grid, line))
        rules = _partial_rules(line)
        lines += [rules] if rules else []
    lines.append("\\midrule")
    for index, line in enumerate(grid.body):
        lines.append(_line(grid, line))
        if index in grid.rules and index < len(grid.body) - 1:
            lines.append("\\midrule")
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _line(grid: Grid, line: Line) -> str:
    cells, column = [], 0
    while column < len(line):
        cell = line[column]
        cells.append("" if cell is None else _cell(grid, column, cell))
        column += 1 if cell is None else cell.columns
    return " & ".join(cells).rstrip() + " \\\\"


def _partial_rules(line: Sequence[Cell | None]) -> str:
    """A thin rule under every head cell that spans columns."""
    return "".join(
        f"\\cmidrule(lr){{{column + 1}-{column + cell.columns}}}"
        for column, cell in enumerate(line)
        if cell is not None and cell.columns > 1 and cell.text
    )


def _cell(grid: Grid, column: int, cell: Cell) -> str:
    text = _text(cell.text)
    if text:
        text = f"\\underline{{{text}}}" if cell.underlined else text
        text = f"\\textit{{{text}}}" if cell.italic else text
        text = f"\\textbf{{{text}}}" if cell.bold else text
    if cell.rows > 1:
        text = f"\\multirow{{{cell.rows}}}{{*}}{{{text}}}"
    if cell.columns > 1:
        align = "c" + (WIDE if column + cell.columns - 1 in grid.gaps else "")
        text = f"\\multicolumn{{{cell.columns}}}{{{align}}}{{{text}}}"
    return text


def _text(text: Text) -> str:
    return "".join(_part(part) for part in text)


def _part(part: Part) -> str:
    if part.place == "line":
        return latex(part.text)
    command = "\\textsubscript" if part.place == "below" else "\\textsuperscript"
    return f"{command}{{{latex(part.text)}}}"
