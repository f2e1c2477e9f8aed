"""Where the numbers of a run come from: the entries behind it, their machines and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from oodbench.canonical_json import JSON, canonical_json
from oodbench.store.store import Entry, Store

#: What a record says of the making of an entry, beside its machine.
MADE = ("created", "seconds", "images", "train_images", "parameters", "peak_memory_mb", "resumed")


class Steps:
    """Scores, measurements and fits behind the runs of a report, each noted once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.found: dict[str, dict[str, JSON]] = {}
        self.machines: dict[str, int] = {}

    def behind(self, run: Entry) -> list[str]:
        """The keys of the entries a run was made from: scores, then measurements, then fits."""
        scores = [str(run.parts[side]) for side in ("id_scores", "ood_scores")]
        measured, fits = [], []
        for key in scores:
            parts = self._note("score", key)
            measured += [str(parts[name]) for name in ("measure", "reference") if name in parts]
        for key in measured:
            fits += [str(fit) for fit in cast("list[JSON]", self._note("measure", key)
                                              .get("fits", []))]  # fmt: skip
        for key in fits:
            self._note("fit", key)
        return list(dict.fromkeys([*scores, *measured, *fits]))

    def _note(self, stage: str, key: str) -> Mapping[str, JSON]:
        """The parts of an entry's key, {} where it is not in the store any more."""
        if key not in self.found:
            entry = self.store.get(stage, key)
            made: dict[str, JSON] = {"missing": True} if entry is None else self._made(entry)
            self.found[key] = {"stage": stage, **made}
        return cast("Mapping[str, JSON]", self.found[key].get("parts", {}))

    def _made(self, entry: Entry) -> dict[str, JSON]:
        record = entry.record
        made = {name: record[name] for name in MADE if name in record}
        if "machine" in record:
            text = canonical_json(record["machine"])
            made["machine"] = self.machines.setdefault(text, len(self.machines))
        return made | {"parts": dict(entry.parts)}

    def to_json(self) -> dict[str, JSON]:
        """`entries` by key, and the `machines` that they name by number."""
        import json

        return {
            "entries": cast("dict[str, JSON]", self.found),
            "machines": [json.loads(text) for text in self.machines],
        }
