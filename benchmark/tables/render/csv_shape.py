"""A document as CSV in the table's own shape: one line of titles, then the body as printed."""

from __future__ import annotations

import csv
import io

from oodbench.media import csv_cell
from oodbench.tables.layout.grid import Document, flat_head, flat_line
from oodbench.tables.layout.markup import plain


def render_csv(document: Document) -> str:
    """Panels below one another, each under its title, with a blank line between them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for index, panel in enumerate(document.panels):
        if index:
            writer.writerow([])
        if panel.title:
            writer.writerow([csv_cell(plain(panel.title))])
        lines = [flat_head(panel.grid), *map(flat_line, panel.grid.body)]
        writer.writerows([csv_cell(cell) for cell in line] for line in lines)
    return out.getvalue()
