"""What a notebook or script calls; the command line does the same through the same parts.

    import oodbench
    oodbench.run("digits-photos", ["informative-hvae:llr-ada", "png-length"], scale="smoke")
    oodbench.leaderboard(layout="table2", compare="paper")

Tables come back as pandas data frames, tidy: one row per number, metrics in percent.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import check_compatible, find_places, load
from oodbench.datasets.pairs import Pair, get_pair
from oodbench.errors import ConfigError
from oodbench.flow import arguments
from oodbench.progress import Progress
from oodbench.store.storage import DEFAULT_STORE

if TYPE_CHECKING:
    import pandas
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.detect.detector import Detector
    from oodbench.flow.plan import DetectorRequest
    from oodbench.leaderboards.rows import Group
    from oodbench.store.store import Entry


@dataclass(frozen=True)
class LoadedPair:
    """The images of a pair: ID training and test split, OOD test split."""

    pair: Pair
    train: ImageSet
    id_test: ImageSet
    ood_test: ImageSet


def load_pair(
    pair: str | Pair, data: str | Path | Iterable[str | Path] = (), store: str | Path | None = None
) -> LoadedPair:
    """Load the three splits of a pair, each (N, C, H, W) uint8, read-only and memory-mapped.

    `data`: folders as for ``--data``.  Raises DataError where a file is missing or the shapes of
    the two sides differ, UnknownNameError on an unknown pair.
    """
    (one,) = arguments.pairs(pair)
    chosen = get_pair(one) if isinstance(one, str) else one
    places = find_places(arguments.texts("data", data), store_location(store))
    train = load(chosen.in_dist, "train", places, divide=True)
    id_test = load(chosen.in_dist, "test", places, divide=True)
    ood_test = load(
        chosen.ood, "test", places, like=id_test.shape, count=len(id_test), beside=chosen.in_dist
    )
    check_compatible(id_test, ood_test)
    return LoadedPair(chosen, train, id_test, ood_test)


def run(
    pairs: str | Pair | Iterable[str | Pair] = (),
    detectors: str | type[Detector] | Iterable[str | type[Detector]] = (),
    *,
    in_dist: str | Path | None = None,
    ood: str | Path | Iterable[str | Path] = (),
    suite: str | Path | None = None,
    both: bool = False,
    seeds: int | Iterable[int] = 1,
    scale: str | None = None,
    recipe: str = "",
    overrides: Mapping[str, JSON] | None = None,
    plugins: str | Path | Sequence[str | Path] = (),
    project: str | Path | None = None,
    data: str | Path | Iterable[str | Path] = (),
    store: str | Path | None = None,
    device: str | torch.device = "auto",
    compile: bool = False,
    batch_size: int | None = None,
    checkpoint_seconds: float = 60.0,
    log: str | Iterable[str] = (),
    all_scores: bool = True,
    dry_run: bool = False,
    quiet: bool = False,
    trust_imported: bool = False,
    executor: Literal["local", "ray"] = "local",
    jobs: int = 1,
    address: str = "",
    cpus_per_fit: int = 1,
    gpus_per_fit: float | None = None,
    memory_per_fit: int = 0,
    checkpoints: Literal["local", "store"] = "local",
) -> pandas.DataFrame:
    """Train what is missing, measure, score and rank; the rows of `leaderboard` for these runs.

    - `pairs`: ``"cifar10-svhn"`` or several; or `in_dist` and `ood`, each a name, an ``.npz`` file
      or a folder; or a `suite`.  Nothing at all is the embedded suite.  `both` adds every pair
      with its sides exchanged.
    - `detectors`: names as on the command line, ``informative-hvae@F5:llr-ada``; by default those
      of the suite, or the HVAEs and the trivial detectors.
    - `seeds`: how many training seeds from 0 on, or the seeds themselves.
    - `scale`: ``paper``, ``small`` (default) or ``smoke``; `recipe`: one for every detector that
      names none.  `overrides` changes settings of all recipes and becomes part of the keys:
      ``{"training": {"epochs": 3}}`` or ``{"training.epochs": 3, "model.layers.0.latent": "c8"}``.
    - `plugins`: files or modules, as ``--plugin``; a detector defined in the notebook itself only
      has to be registered.  `project`: a folder of recipes, pairs, suites, layouts and data sets,
      from then on in this process.
    - `store`: folder or URL; by default OODBENCH_STORE, else ``results/store``.  `device`,
      `compile`, `batch_size` and `checkpoint_seconds` change no result on the CPU.
    - `log`: ``tensorboard``, ``mlflow``, ``wandb`` or a plug-in's, to watch trainings in.
    - `all_scores`: with L>k, KL<=k of k < L, KL>k and LLR_ada_eq11, which printed tables leave out.
    - `trust_imported`: build on what `oodbench store import` added; by default one's own is
      computed instead, and a warning says so.
    - `dry_run`: makes nothing and returns what is missing, columns step, images, seconds.
    - `jobs`: so many processes of this machine; ``executor="ray"``: the Ray cluster at `address`
      (``"auto"``, ``"HOST:PORT"``, or none for one of this machine's own).  `cpus_per_fit` (also
      its threads), `gpus_per_fit` and `memory_per_fit` (bytes) are what each fit and measurement is
      given.  ``checkpoints="store"`` keeps those of a store at a URL there.

    Progress goes to a bar in a notebook or on a terminal, to lines elsewhere, nowhere when
    `quiet`.  Raises an OodbenchError of one line on bad input; what fails while running is raised
    after everything else has been done and stored.  A source that changed without a new `revision`
    is a warning.
    """
    from oodbench.declare.overrides import nested
    from oodbench.flow.bench import Bench
    from oodbench.flow.executors.crews.workers import Workers
    from oodbench.flow.executors.local import raise_failures, run_jobs
    from oodbench.flow.executors.planned import run_planned
    from oodbench.flow.selection import choose
    from oodbench.store.maintenance import needed
    from oodbench.store.store import Store
    from oodbench.train.training_logs import check_logs

    workers = Workers(
        executor, jobs, address, cpus_per_fit, gpus_per_fit, memory_per_fit
    )  # fmt: skip
    workers.check()
    load_plugins(plugins, project)
    chosen = choose(
        arguments.pairs(pairs), arguments.optional("in_dist", in_dist), arguments.texts("ood", ood),
        arguments.optional("suite", suite), arguments.detectors(detectors), scale,
        arguments.text("recipe", recipe), both,
    )  # fmt: skip
    asked = chosen.jobs(arguments.seeds(seeds), nested(overrides or {}))
    location, logs = store_location(store), tuple(arguments.texts("log", log))
    check_logs(logs)
    bench = Bench(
        store=Store(
            location, trust_imported=trust_imported, keep_checkpoints=checkpoints == "store"
        ),
        places=find_places(arguments.texts("data", data), location),
        progress=Progress("quiet" if quiet else None),
        device=str(device),
        compile=compile,
        batch_size=batch_size,
        checkpoint_seconds=checkpoint_seconds,
        logs=logs,
    )
    if dry_run:
        import pandas as pd

        from oodbench.flow.missing_steps import missing_of_all
        from oodbench.flow.perform import Outcome

        steps, failures = missing_of_all(bench, asked)
        raise_failures(Outcome(failures=failures))
        rows = [(step.text, step.images, step.seconds) for step in steps]
        return pd.DataFrame(rows, columns=["step", "images", "seconds"])
    outcome = run_planned(bench, asked, workers) if workers.planned else run_jobs(bench, asked)
    frame = _runs_frame(outcome.entries, chosen.asked, all_scores)
    warn_of_changes(needed(bench.store, outcome.entries).values())
    if line := bench.store.untrusted_note():
        warnings.warn(line, UserWarning, stacklevel=2)
    raise_failures(outcome)
    return frame


def leaderboard(
    store: str | Path | None = None,
    *,
    pairs: str | Sequence[str] = (),
    detectors: str | Sequence[str] = (),
    suite: str | None = None,
    layout: str | None = None,
    scale: str | None = None,
    compare: Literal["paper"] | None = None,
    columns: str | Sequence[str] = (),
    all_scores: bool = True,
    sort: str | None = None,
    means: str | Sequence[str] = (),
    plugins: str | Path | Sequence[str | Path] = (),
    project: str | Path | None = None,
) -> pandas.DataFrame:
    """Finished runs of a store as tidy rows, one per number; trains nothing, imports no torch.

    Without a layout the columns are pair, name (of the detector), detector (its title), score,
    recipe, scale, category, n_per_side, seeds (how many), seed (which), metric, value, low, high,
    sd, runs, notes, mark: values in percent, low and high (95 %) for one seed, sd for several.
    `columns` adds ``cost``, ``diagnostics``, ``classifier``, ``id-positive``, ``paper``,
    ``reverse``, ``trivial`` or ``year`` (of the method), in the place of those of a suite;
    ``compare="paper"`` is the column ``paper``.

    Rows stand best first within a pair, by AUROC or by the metric `sort`; ``sort="name"`` is the
    order of detectors, as in a suite.  Pairs and detectors may have wildcards, ``"informative-*"``.

    `means`: rows of means over OOD sets, ``"all"``, ``"near"``, ``"far"``, ``"near=cifar100"``.

    A `layout` (``table1`` … ``table16``, ``rst``, ``diffpath``, …), or a suite that has one, gives
    a row per cell of that published table, empty where nothing ran; ``compare="paper"`` puts the
    paper's value, the difference and whether it lies inside our interval beside ours.

    Plug-ins are needed only for what they bring to a table: a suite, a layout, the order of pairs.
    Raises OodbenchError on a pair or detector that never ran and on names that do not exist.
    """
    import pandas as pd

    from oodbench.flow.selection import asked_scores, check_scale
    from oodbench.flow.suites import find_suite
    from oodbench.leaderboards.ordering import NAME, checked_order
    from oodbench.leaderboards.rows import left_out_notes
    from oodbench.leaderboards.set_means import parse_means
    from oodbench.leaderboards.stored_groups import asked_groups
    from oodbench.store.store import Store
    from oodbench.tables.extra_columns import parse_columns
    from oodbench.tables.request import TableRequest, suite_groups, table_rows

    load_plugins(plugins, project)
    if compare not in (None, "paper"):
        raise ConfigError(f"compare={compare!r}: 'paper' is all that there is")
    check_scale(scale)
    chosen = find_suite(suite) if suite else None
    location = store_location(store)
    opened = Store(location)
    asked = asked_scores(arguments.detectors(detectors), opened)
    table = layout or (chosen.layout if chosen else "") or "general"
    given = arguments.texts("columns", columns)
    own = chosen.columns if chosen is not None and table == "general" else ()
    request = TableRequest(
        layout=table,
        scale=scale or "",
        format="csv",
        paper=compare is not None,
        extras=tuple(parse_columns(",".join(given or own))),
        all_scores=all_scores,
        significance=bool(chosen or layout or columns or compare),  # as on the command line
        means=parse_means(arguments.texts("means", means)),
        sort=checked_order(sort or (NAME if suite else "auroc")),
        asked=asked,
    )
    groups = asked_groups(opened, location, arguments.texts("pairs", pairs), asked, scale, chosen)
    groups = suite_groups(groups, chosen) if chosen else groups
    rows, names = table_rows(groups, opened, request)
    warn_of_changes(entry for group in groups for entry in group.entries)
    for line in left_out_notes(groups):
        warnings.warn(line, UserWarning, stacklevel=2)
    return pd.DataFrame(rows, columns=list(names))


def compare(
    a: str, b: str, pair: str, *, scale: str | None = None, store: str | Path | None = None
) -> pandas.DataFrame:
    """The difference of two AUROCs on one pair, in percent, with 95 % intervals and p-values.

    `a` and `b` are ``detector[@recipe][:score]``.  One row per seed (`source` "test images": paired
    DeLong on the same images, `p_holm` after Holm over the seeds), and with several seeds a last
    one over seeds (`source` "training seeds": paired t, `sd` the standard deviation).

    Raises OodbenchError where a run is missing or a name fits several.
    """
    import pandas as pd

    from oodbench.flow.selection import check_scale
    from oodbench.leaderboards.head_to_head import compare_runs
    from oodbench.store.store import Store

    check_scale(scale)
    found = compare_runs(Store(store_location(store)), a, b, pair, scale or "")
    sides = {"pair": pair, "a": found.a.name, "b": found.b.name}
    rows: list[dict[str, object]] = [
        sides | {"source": "test images", "seed": seed, "auroc_a": 100 * one.auc_a,
                 "auroc_b": 100 * one.auc_b, "difference": 100 * one.difference,
                 "low": 100 * one.low, "high": 100 * one.high, "p": one.p_value, "p_holm": p}
        for (seed, one), p in zip(found.by_seed.items(), found.p_adjusted, strict=True)
    ]  # fmt: skip
    over = found.over_seeds
    if over is not None:
        rows.append(
            sides | {"source": "training seeds", "difference": 100 * over.mean, "sd": 100 * over.sd,
                     "low": 100 * over.low, "high": 100 * over.high, "p": over.p_value}
        )  # fmt: skip
    columns = [*sides, "source", "seed", "auroc_a", "auroc_b", "difference", "low", "high", "sd",
               "p", "p_holm"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def load_plugins(plugins: arguments.Several, project: str | Path | None) -> None:
    """Take up a project and plug-ins, in this order, as the command line does."""
    from oodbench.declare.declarations import use_project
    from oodbench.declare.registry import load_plugin

    if project is not None:
        use_project(arguments.text("project", project))
    for plugin in arguments.texts("plugins", plugins):
        load_plugin(plugin)


def store_location(store: str | Path | None) -> str:
    """The store that is meant: the one given, else OODBENCH_STORE, else ``results/store``."""
    named = store or os.environ.get("OODBENCH_STORE") or DEFAULT_STORE
    return arguments.text("store", named)


def _runs_frame(
    entries: Iterable[Entry], asked: Mapping[str, DetectorRequest], all_scores: bool
) -> pandas.DataFrame:
    import pandas as pd

    from oodbench.leaderboards.board import shown_scores
    from oodbench.leaderboards.row_formats import COLUMNS, tidy
    from oodbench.leaderboards.rows import group_runs, make_rows

    def shown(group: Group) -> list[str]:
        return shown_scores(group, asked.get(str(group.first["detector"])), all_scores)

    rows = [row for group in group_runs(entries) for row in make_rows(group, shown(group))]
    return pd.DataFrame(tidy(rows), columns=list(COLUMNS))


def warn_of_changes(entries: Iterable[Entry]) -> None:
    """A warning where sources changed since results were stored, at whoever called the API."""
    from oodbench.detect.source_fingerprints import changed_sources

    for line in changed_sources(entries):
        warnings.warn(line, UserWarning, stacklevel=3)
