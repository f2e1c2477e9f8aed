"""The scores, statistics, logs and images behind a run, read from the store.

What is gone from the store is an error that names the command that makes it again.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.spec import is_plainly_registered
from oodbench.errors import ConfigError, DataError
from oodbench.figures.chosen_runs import MissingRunError, Runs, Selection
from oodbench.leaderboards.compared_images import Compared, compared
from oodbench.store.payload import unpack_table

if TYPE_CHECKING:
    import pandas

    from oodbench.datasets.imageset import ImageSet
    from oodbench.datasets.loading import DataPlaces
    from oodbench.store.store import Entry, Store

    #: Named columns, (n,) or (n, K) each.
    Table = dict[str, np.ndarray]


class Stored:
    """What a store holds of a run; images are looked for in `places`."""

    def __init__(self, store: Store, places: DataPlaces) -> None:
        self.store, self.places = store, places
        self._tables: dict[str, Table] = {}

    def compared(self, run: Entry, score: str) -> Compared:
        """What the metrics of a score were computed from: equal sizes, groups, oracle choices."""
        return compared(run, score, *self.scores(run))

    def scores(self, run: Entry) -> list[Table]:
        """The score tables of the ID and the OOD images."""
        return [self._table(entry, "scores.parquet") for entry in self._scored(run)]

    def statistics(self, run: Entry) -> list[Table]:
        """The statistics of the ID and the OOD images; `index`: their place in the split."""
        return [self._table(entry, "statistics.parquet") for entry in self.measured(run)]

    def measured(self, run: Entry) -> list[Entry]:
        """The measurements of the ID and the OOD images."""
        return [self._entry(run, "measure", e.parts["measure"]) for e in self._scored(run)]

    def fits(self, run: Entry) -> list[Entry]:
        """What the run's detector learned, members first; empty where it learns nothing."""
        digests = cast("list[str]", self.measured(run)[0].parts["fits"])
        return [self._entry(run, "fit", digest) for digest in digests]

    def log(self, fit: Entry) -> Table | None:
        """Columns of a fit's training log, (epochs,); None where it was not trained in epochs."""
        if "log.csv" not in cast("Mapping[str, JSON]", fit.record["files"]):
            return None
        rows = list(csv.DictReader(io.StringIO(fit.read("log.csv").decode())))
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}

    def images(self, run: Entry) -> tuple[ImageSet, ImageSet]:
        """The ID and the OOD test split of a run, as it was measured.

        Raises DataError where they are not on this machine or are not the measured ones.
        """
        from oodbench.datasets.loading import load

        record = run.record
        for name in (str(record["in_dist"]), str(record["ood"])):
            if run.imported and not is_plainly_registered(name):
                raise DataError(
                    f"the images {name!r} are named by the imported run {run.digest[:12]}, and only"
                    " those of sets that are registered here are opened for it; run the pair here"
                )
        id_test = load(str(record["in_dist"]), "test", self.places, divide=True)
        ood_test = load(
            str(record["ood"]), "test", self.places, like=id_test.shape, count=len(id_test),
            beside=str(record["in_dist"]),
        )  # fmt: skip
        for images, entry in zip((id_test, ood_test), self.measured(run), strict=True):
            if images.fingerprint != entry.parts["images"]:
                raise DataError(
                    f"the test images of {images.name} found here are not those that"
                    f" {record['detector']} was measured on; name their folder with --data"
                )
        return id_test, ood_test

    def _scored(self, run: Entry) -> list[Entry]:
        return [self._entry(run, "score", run.parts[s]) for s in ("id_scores", "ood_scores")]

    def _entry(self, run: Entry, stage: str, digest: JSON) -> Entry:
        entry = self.store.get(stage, str(digest))
        if entry is None:
            raise MissingRunError(
                f"{stage} {str(digest)[:12]} of {run.record['detector']} on {run.record['pair']} is"
                f" not in {self.store.storage.location} any more; `{_again(run)} --store FOLDER`"
                " makes all of it again in a new folder"
            )
        return entry

    def _table(self, entry: Entry, name: str) -> Table:
        if entry.path not in self._tables:
            self._tables[entry.path] = entry.parse(name, unpack_table)
        return self._tables[entry.path]


def _again(run: Entry) -> str:
    """The command that makes a run."""
    record = run.record
    recipe = f"@{record['recipe']}" if record["recipe"] else ""
    words = ["--pair", str(record["pair"]), "--detector", f"{record['detector']}{recipe}"]
    words += ["--scale", str(record["scale"])] if record["scale"] else []
    words += ["--first-seed", str(record["seed"])] if record["seed"] else []
    return shlex.join(["oodbench", "run", *words])


def diagnosed_fits(
    store: Store, places: DataPlaces, run: str, pair: str | None, scale: str, seed: int | None
) -> Sequence[Entry]:
    """The fits of a run, by its key or by detector and pair; ConfigError without a pair."""
    stored = Stored(store, places)
    if pair is not None:
        chosen = Runs(store, Selection((pair,), (run,), scale, seed)).choose(pair)[0]
        return _of_models(stored.fits(chosen.run))
    if any(c not in "0123456789abcdef" for c in run):
        raise ConfigError(f"{run!r} is no key of a run; to name a detector, add --pair NAME")
    entry = store.resolve(run, ("run", "fit"))
    return [entry] if entry.stage == "fit" else _of_models(stored.fits(entry))


def _of_models(fits: Sequence[Entry]) -> Sequence[Entry]:
    """Without what a detector learned on its models."""
    return [fit for fit in fits if "model" in fit.parts] or fits


def named_run(store: Store, run: str, pair: str | None, scale: str, seed: int | None) -> Entry:
    """The run that a key, or a detector with a pair, names; ConfigError on a detector alone."""
    if pair is not None:
        runs = Runs(store, Selection((pair,), (run,), scale, seed))
        return runs.choose(runs.pairs[0])[0].run
    if not run or any(char not in "0123456789abcdef" for char in run):
        raise ConfigError(
            f"{run!r} is no key of a run; to name a detector, give its pair too: add --pair NAME"
        )
    return store.resolve(run, ("run",))


def image_scores(
    run: Entry, store: Store, places: DataPlaces, *, statistics: bool = False
) -> pandas.DataFrame:
    """A row per measured image, ID images first: side, set, index, compared, a column per score.

    `compared`: whether it counts in the metrics.  With `statistics` also what was measured,
    ``kl_0[2]`` where a statistic has several numbers.  MissingRunError where scores are gone.
    """
    import pandas as pd

    stored = Stored(store, places)
    tables, measured = stored.scores(run), stored.statistics(run)
    counted = _compared_rows(stored.compared(run, next(iter(tables[0]))), tables)
    sides = []
    for place, table in enumerate(tables):
        columns: dict[str, object] = {
            "side": ("id", "ood")[place],
            "set": str(run.record[("in_dist", "ood")[place]]),
            "index": measured[place]["index"],
            "compared": np.isin(np.arange(len(measured[place]["index"])), counted[place]),
            **table,
        }
        for name, values in measured[place].items() if statistics else ():
            if name != "index":
                named = (
                    [f"{name}[{k}]" for k in range(values.shape[1])] if values.ndim > 1 else [name]
                )
                columns |= dict(zip(named, values.reshape(len(values), -1).T, strict=True))
        sides.append(pd.DataFrame(columns))
    return pd.concat(sides, ignore_index=True)


def _compared_rows(
    compared: Compared, tables: Sequence[Mapping[str, np.ndarray]]
) -> list[np.ndarray]:
    """The rows of both sides that count; where groups are judged, of all their members."""
    from oodbench.rank.metrics import group_members

    rows = [compared.id_rows, compared.ood_rows]
    if compared.members == 1:
        return rows
    counts = [len(next(iter(table.values()))) for table in tables]
    members = [group_members(count, compared.members) for count in counts]
    return [m[np.isin(m[:, 0], firsts)].ravel() for m, firsts in zip(members, rows, strict=True)]
