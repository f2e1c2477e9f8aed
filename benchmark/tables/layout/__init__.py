"""How a table is laid out: a grid of cells with marks, filled from a layout."""
