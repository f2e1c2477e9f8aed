"""The scores of every test image of a run as a data frame, for Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from oodbench.errors import ConfigError
from oodbench.figures.chosen_runs import Runs, Selection
from oodbench.figures.stored import Stored

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from oodbench.datasets.loading import DataPlaces
    from oodbench.leaderboards.compared_images import Compared
    from oodbench.store.store import Entry, Store


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
    import numpy as np
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
    import numpy as np

    from oodbench.rank.metrics import group_members

    rows = [compared.id_rows, compared.ood_rows]
    if compared.members == 1:
        return rows
    counts = [len(next(iter(table.values()))) for table in tables]
    members = [group_members(count, compared.members) for count in counts]
    return [m[np.isin(m[:, 0], firsts)].ravel() for m, firsts in zip(members, rows, strict=True)]
