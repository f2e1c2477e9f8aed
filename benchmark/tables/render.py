"""One name per format: a document as text, Markdown, LaTeX, HTML or CSV in the table's shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from oodbench.tables.grid import Document
from oodbench.tables.render_csv import render_csv
from oodbench.tables.render_html import html_page
from oodbench.tables.render_latex import render_latex
from oodbench.tables.render_markdown import render_markdown
from oodbench.tables.render_text import render_text

RENDERERS: Mapping[str, Callable[[Document], str]] = {
    "table": render_text,
    "csv": render_csv,
    "latex": render_latex,
    "markdown": render_markdown,
    "html": html_page,
}
