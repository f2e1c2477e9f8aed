"""Where the numbers of a table come from: the runs of a store, and what papers report."""
