"""The papers' figures, drawn with matplotlib from what the store holds; nothing is trained here.

`kinds` says which figures there are, `source` finds their runs, `fitted` decodes with stored
weights, `build` puts the two together.  The other modules draw: every function there takes plain
arrays and returns a `matplotlib.figure.Figure`.
"""
