"""Data sets: specifications, sources, and one memory-mapped uint8 array a split.

Importing this package imports neither numpy nor torch; `oodbench.datasets.loading.load` does.
"""

from oodbench.datasets.spec import DatasetSpec, catalogue, get_spec, parse_name

__all__ = ["DatasetSpec", "catalogue", "get_spec", "parse_name"]
