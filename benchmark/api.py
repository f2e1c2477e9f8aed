"""What a notebook or script calls; the command line does the same through the same parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import check_compatible, find_places, load
from oodbench.pairs import Pair, get_pair
from oodbench.plan import DEFAULT_DETECTORS, parse_detector, plan_jobs
from oodbench.progress import Progress
from oodbench.storage import DEFAULT_STORE

if TYPE_CHECKING:
    import pandas

    from oodbench.store import Entry


@dataclass(frozen=True)
class LoadedPair:
    """The images of a pair: ID training and test split, OOD test split."""

    pair: Pair
    train: ImageSet
    id_test: ImageSet
    ood_test: ImageSet


def load_pair(
    pair: str | Pair, data: Sequence[str | Path] = (), store: str = DEFAULT_STORE
) -> LoadedPair:
    """Load the three splits of a pair, each (N, C, H, W) uint8, read-only and memory-mapped.

    `data`: folders as for ``--data``.  Raises DataError where a file is missing or the shapes of
    the two sides differ, UnknownNameError on an unknown pair.
    """
    chosen = get_pair(pair) if isinstance(pair, str) else pair
    places = find_places(data, store)
    train = load(chosen.in_dist, "train", places, divide=True)
    id_test = load(chosen.in_dist, "test", places, divide=True)
    ood_test = load(chosen.ood, "test", places, like=id_test.shape, count=len(id_test))
    check_compatible(id_test, ood_test)
    return LoadedPair(chosen, train, id_test, ood_test)


def run(
    pairs: str | Pair | Sequence[str | Pair],
    detectors: Sequence[str] = DEFAULT_DETECTORS,
    *,
    seeds: int | Iterable[int] = 1,
    scale: str = "small",
    data: Sequence[str | Path] = (),
    store: str = DEFAULT_STORE,
    device: str = "auto",
    quiet: bool = False,
) -> pandas.DataFrame:
    """Train what is missing, measure, score and rank; the rows of `leaderboard` for these runs.

    `detectors` are names as on the command line (``informative-hvae@F5:llr-ada``); `seeds` is a
    number of seeds from 0, or the seeds.  Raises OodbenchError with one line on
    bad input, after everything else has been done and stored.
    """
    from oodbench.executors.local import raise_failures, run_jobs
    from oodbench.jobkeys import Bench
    from oodbench.store import Store

    listed = [pairs] if isinstance(pairs, str | Pair) else list(pairs)
    chosen = [get_pair(pair) if isinstance(pair, str) else pair for pair in listed]
    requests = [parse_detector(name) for name in detectors]
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    jobs = plan_jobs(requests, chosen, scale=scale, seeds=numbers)
    bench = Bench(
        Store(store), find_places(data, store), Progress("quiet" if quiet else None), device
    )
    asked = {request.name: request.scores for request in requests}
    outcome = run_jobs(bench, jobs)
    raise_failures(outcome)
    return _frame(outcome.entries, asked)


def leaderboard(store: str = DEFAULT_STORE) -> pandas.DataFrame:
    """Every finished run of a store, tidy: one row per pair, detector, score and metric.

    Columns: pair, detector, score, recipe, category, n_per_side, seeds, metric, value, low, high,
    sd, runs; values in percent, low and high for one seed, sd for several.
    """
    from oodbench.store import Store

    return _frame(Store(store).entries("run"), {})


def _frame(entries: Iterable[Entry], asked: dict[str, tuple[str, ...]]) -> pandas.DataFrame:
    import pandas as pd

    from oodbench.leaderboards import COLUMNS, group_runs, make_rows, tidy
    from oodbench.plan import DetectorRequest, select_scores

    rows = []
    for group in group_runs(entries):
        name = str(group.first["detector"])
        request = DetectorRequest(name, "", asked.get(name, ()))
        rows += make_rows(group, select_scores(request, group.score_names))
    return pd.DataFrame(tidy(rows), columns=list(COLUMNS))
