"""Why two results have different keys."""

from __future__ import annotations

from collections.abc import Mapping

from oodbench.canonical_json import JSON
from oodbench.store.store import Store

MISSING = "(absent)"


def explain(a: JSON, b: JSON, path: str = "") -> list[tuple[str, JSON, JSON]]:
    """(dotted path, value in a, value in b) of every part that differs; MISSING where absent."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        rows = []
        for key in sorted({*a, *b}):
            inner = f"{path}.{key}" if path else key
            rows += explain(a.get(key, MISSING), b.get(key, MISSING), inner)
        return rows
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        rows = []
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            rows += explain(left, right, f"{path}[{index}]")
        return rows
    return [] if a == b else [(path, a, b)]


def expand_parts(store: Store, value: JSON) -> JSON:
    """Key parts with every digest that names an entry replaced by that entry's own parts."""
    if isinstance(value, Mapping):
        return {key: expand_parts(store, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expand_parts(store, item) for item in value]
    if isinstance(value, str) and len(value) == 64:
        for stage in ("fit", "measure", "score"):
            entry = store.get(stage, value)
            if entry is not None:
                return expand_parts(store, dict(entry.parts))
    return value
