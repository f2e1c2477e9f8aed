"""One name per format: a document as text, Markdown, LaTeX, HTML or CSV in the table's shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from oodbench.tables.layout.grid import Document
from oodbench.tables.render.csv_shape import render_csv
from oodbench.tables.render.html import html_page
from oodbench.tables.render.latex import render_latex
from oodbench.tables.render.markdown import render_markdown
from oodbench.tables.render.text import render_text

RENDERERS: Mapping[str, Callable[[Document], str]] = {
    "table": render_text,
    "csv": render_csv,
    "latex": render_latex,
    "markdown": render_markdown,
    "html": html_page,
}
