"""One renderer a format: text, Markdown, LaTeX, HTML, CSV in the table's shape."""
