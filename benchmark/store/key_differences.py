"""Why two results have different keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oodbench.canonical_json import JSON
from oodbench.store.store import Entry, Store

MISSING = "(absent)"
#: (dotted path, value in a, value in b)
Row = tuple[str, JSON, JSON]
#: Rows after which the rest is not worth reading.
MOST = 1_000


def explain(a: JSON, b: JSON, store: Store | None = None) -> list[Row]:
    """Every part that differs, MISSING where absent; at most `MOST`.

    Where the parts of both name entries of `store`, it goes down into what these were made from,
    into any two of them once.
    """
    rows: list[Row] = []
    for row in _differences(a, b, "", _Entries(store)):
        rows.append(row)
        if len(rows) == MOST:
            rows.append(("…", "(more)", "(more)"))
            break
    return rows


class _Entries:
    """Entries by digest, and which two have been compared already."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self.met: set[tuple[str, str]] = set()
        self._known: dict[str, Entry | None] = {}

    def parts(self, value: JSON) -> Mapping[str, JSON] | None:
        """The parts of the entry that a digest names, None where it names none."""
        if self.store is None or not isinstance(value, str) or len(value) != 64:
            return None
        if value not in self._known:
            found = (self.store.get(stage, value) for stage in ("fit", "measure", "score"))
            self._known[value] = next((entry for entry in found if entry is not None), None)
        entry = self._known[value]
        return None if entry is None else entry.parts


def _differences(a: JSON, b: JSON, path: str, entries: _Entries) -> Iterator[Row]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            inner = f"{path}.{key}" if path else key
            yield from _differences(a.get(key, MISSING), b.get(key, MISSING), inner, entries)
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _differences(left, right, f"{path}[{index}]", entries)
    elif a != b:
        left_parts, right_parts = entries.parts(a), entries.parts(b)
        if left_parts is None or right_parts is None:
            yield path, a, b
        elif (str(a), str(b)) not in entries.met:
            entries.met.add((str(a), str(b)))
            yield from _differences(left_parts, right_parts, path, entries)
