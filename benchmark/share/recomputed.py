"""Whether the metrics that runs name are those of their scores, where these are at hand.

A record's checksum says nothing about who wrote it.  Scores of single images are much harder to
make up than a number, and whoever has them can compute it again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from oodbench.errors import OodbenchError
from oodbench.flow.keys import METRICS_REVISION
from oodbench.flow.run_records import SAME
from oodbench.store.store import DamagedEntryError, Entry, Store

if TYPE_CHECKING:
    import numpy as np

    from oodbench.canonical_json import JSON

    Table = Mapping[str, np.ndarray]


@contextmanager
def recomputed(store: Store) -> Iterator[Recomputed]:
    """What holds the runs and scores that it is given until they are compared."""
    with tempfile.TemporaryDirectory(prefix="oodbench-") as folder:
        yield Recomputed(store, Path(folder))


class Recomputed:
    """Runs, held against their scores: those given beside them, else those of the store."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.runs: list[Entry] = []
        self._tables = lru_cache(maxsize=8)(self._read)

    def add(self, entry: Entry, files: Mapping[str, bytes]) -> None:
        """Take up a run, or the scores that one may have."""
        if entry.stage == "run":
            self.runs.append(entry)
        elif entry.stage == "score" and "scores.parquet" in files:
            (self.folder / entry.digest).write_bytes(files["scores.parquet"])

    def wrong(self) -> Iterator[tuple[Entry, str]]:
        """Runs whose metrics are not those of their scores, and where they differ."""
        for run in self.runs:
            metrics = cast("Mapping[str, JSON]", run.parts.get("metrics", {}))
            if metrics.get("revision") != METRICS_REVISION:
                continue  # computed by other rules
            try:
                seen = self._differs(run)
            except (OodbenchError, ValueError, LookupError) as error:
                seen = str(error)
            if seen:
                yield run, seen

    def _differs(self, run: Entry) -> str:
        from oodbench.leaderboards.compared_images import metrics_from

        tables = [self._tables(str(run.parts[side])) for side in ("id_scores", "ood_scores")]
        id_table, ood_table = tables
        if id_table is None or ood_table is None:
            return ""  # only the records are at hand
        named = cast("Mapping[str, Mapping[str, Mapping[str, float]]]", run.record["scores"])
        for (name, metric), value in metrics_from(run, id_table, ood_table).items():
            said = named[name][metric]["value"]
            if abs(100 * (value - said)) > SAME:
                return f"{name} {metric}: {100 * value:.2f}, not {100 * said:.2f}"
        return ""

    def _read(self, digest: str) -> Table | None:
        from oodbench.store.payload import unpack_table

        given = self.folder / digest
        if given.is_file():
            return unpack_table(given.read_bytes())
        entry = self.store.get("score", digest)
        if entry is None:
            return None
        try:
            return entry.parse("scores.parquet", unpack_table)
        except DamagedEntryError:
            return None
