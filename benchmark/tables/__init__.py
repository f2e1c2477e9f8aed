"""Tables: layouts as data, one grid model, one renderer per format.

A layout (`oodbench.declare.layouts`) says which number stands where;
`oodbench.tables.layout.filled` looks
the numbers up in a source (the store's runs, or the papers' numbers) and lays them out as a
document of grids (`oodbench.tables.layout.grid`); the `render_*` modules turn a document into text.
`oodbench.leaderboards.board` and `oodbench.tables.general` are the layout of everybody else's
suites. Nothing here trains or measures.
"""
