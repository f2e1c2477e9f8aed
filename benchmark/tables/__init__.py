"""Tables: layouts as data, one grid model, one renderer per format.

A layout (`oodbench.tables.layouts`) says which number stands where; `oodbench.tables.fill` looks
the numbers up in a source (the store's runs, or the papers' numbers) and lays them out as a
document of grids (`oodbench.tables.grid`); the `render_*` modules turn a document into text.
`oodbench.tables.board` and `oodbench.tables.general` are the layout of everybody else's suites.
Nothing here trains or measures.
"""
