"""What a notebook makes of results: exports, sweeps, diagnoses, scores, figures, reports, files.

    oodbench.export("informative-hvae:llr-ada", pair="china-flower", out="exported")
    oodbench.figure("roc", pairs="china-flower", out="roc.pdf")

Each takes what the command of its name takes and does the same.  Results come back as paths, data
frames and matplotlib figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oodbench.api import load_plugins, store_location, warn_of_changes
from oodbench.datasets.loading import find_places
from oodbench.declare.overrides import nested
from oodbench.errors import ConfigError, StoreError, UnknownNameError
from oodbench.flow import arguments
from oodbench.flow.bench import Bench
from oodbench.progress import Progress
from oodbench.store.store import Store

if TYPE_CHECKING:
    import pandas
    import torch
    from matplotlib.figure import Figure

    from oodbench.canonical_json import JSON
    from oodbench.flow.arguments import Several, Text

#: Images that `diagnose` judges, unless it is told another number.
DIAGNOSED = 2000


# ---------------------------------------------------------------------- export
def export(
    detector: str,
    *,
    out: Text,
    pair: str | None = None,
    in_dist: Text | None = None,
    score: str = "",
    scale: str = "small",
    seed: int = 0,
    accept: float | None = None,
    overrides: Mapping[str, JSON] | None = None,
    plugins: Several = (),
    project: Text | None = None,
    data: Several = (),
    store: Text | None = None,
    device: str | torch.device = "auto",
    quiet: bool = False,
    trust_imported: bool = False,
) -> Path:
    """Write a trained detector to the new folder `out`, for `load_detector`.

    What was not trained is trained first.  `detector`: ``name[@recipe][:score]``; the ID set is
    that of `pair`, or `in_dist`.  `accept`: the share of ID images, in percent, that the threshold
    accepts as "in" (95).  `overrides` as for `run`.  No OOD image is looked at.
    `trust_imported` as for `run`.  Raises
    OodbenchError where no single score is named, or `out` is there.
    """
    from oodbench.deploy.exporting import export_detector, export_job

    load_plugins(plugins, project)
    job = export_job(
        detector, pair, arguments.optional("in_dist", in_dist), score, scale, seed,
        nested(overrides or {}),
    )  # fmt: skip
    location = store_location(store)
    bench = Bench(
        Store(location, trust_imported=trust_imported),
        find_places(arguments.texts("data", data), location),
        Progress("quiet" if quiet else None),
        str(device),
    )
    return export_detector(bench, job, Path(arguments.text("out", out)), accept)


# ---------------------------------------------------------------------- sweep
def sweep(
    kind: str = "allocation",
    *,
    in_dist: Text,
    ood: Several,
    models: Several = (),
    budget: int | None = None,
    layers: int | None = None,
    ratios: Iterable[float] | None = None,
    grid: Mapping[str, Sequence[JSON]] | None = None,
    seeds: int | Iterable[int] = 3,
    scale: str = "small",
    recipe: str = "",
    overrides: Mapping[str, JSON] | None = None,
    figure: Text | None = None,
    plugins: Several = (),
    project: Text | None = None,
    data: Several = (),
    store: Text | None = None,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    quiet: bool = False,
    trust_imported: bool = False,
    checkpoints: Literal["local", "store"] = "local",
) -> pandas.DataFrame:
    """Vary one setting of a recipe and run every value; the rows that ``--format csv`` writes.

    `kind`: ``"allocation"``, the sizes of a hierarchy's latents under a `budget`, by `ratios` of
    adjacent layers, 0.5 always among them; or ``"recipe"``, every combination of the values of a
    `grid`, ``{"training.lr": [1e-3, 2e-3]}``.  `models`: hierarchical VAEs, by default two.  A row
    per model, OOD set, score and value, and one per choice (column `choice`).  With `figure`, a
    file, it is drawn too.  `trust_imported` and `checkpoints` as for `run`.  Raises OodbenchError
    on bad input, before anything is trained.
    """
    import pandas as pd

    from oodbench.figures.style import file_format, write_figure
    from oodbench.figures.sweeps import sweep_figure
    from oodbench.flow.selection import check_scale, data_names, detector_names
    from oodbench.sweeps.allocation import (
        MODELS_SWEPT,
        RATIOS,
        parse_ratios,
        plan_allocation,
        swept_pairs,
    )
    from oodbench.sweeps.grid import plan_grid
    from oodbench.sweeps.results import run_sweeps
    from oodbench.tables.sweeps import COLUMNS, differences, tidy_sweep

    if kind not in ("allocation", "recipe"):
        raise UnknownNameError("sweep", kind, ["allocation", "recipe"])
    if (kind == "recipe") != bool(grid):
        raise ConfigError("grid={'training.lr': [1e-3, 2e-3]} belongs to sweep('recipe', …)")
    load_plugins(plugins, project)
    check_scale(scale)
    target = arguments.optional("figure", figure)
    if target is not None:
        file_format(target)
    values = RATIOS if ratios is None else parse_ratios(",".join(map(str, ratios)))
    location = store_location(store)
    bench = Bench(
        Store(location, trust_imported=trust_imported, keep_checkpoints=checkpoints == "store"),
        find_places(arguments.texts("data", data), location),
        Progress("quiet" if quiet else None),
        str(device),
        batch_size=batch_size,
    )
    id_set = arguments.text("in_dist", in_dist)
    pairs, shape = swept_pairs(bench.places, id_set, data_names(arguments.texts("ood", ood)))
    changes, numbers = nested(overrides or {}), arguments.seeds(seeds)
    sweeps = [
        plan_grid(model, pairs, shape, grid, recipe=recipe, scale=scale, seeds=numbers,
                  overrides=changes)
        if grid else
        plan_allocation(
            model, pairs, shape, ratios=values, budget=budget, layers=layers, recipe=recipe,
            scale=scale, seeds=numbers, overrides=changes,
        )
        for model in detector_names(arguments.texts("models", models)) or MODELS_SWEPT
    ]  # fmt: skip
    found = run_sweeps(bench, list({one.request: one for one in sweeps}.values()))
    if target is not None:
        write_figure(sweep_figure(found), target)
    rows = tidy_sweep(found, differences(found, bench.store))
    return pd.DataFrame(rows, columns=list(COLUMNS))


# ---------------------------------------------------------------------- diagnose
def diagnose(
    run: str,
    *,
    pair: str | None = None,
    scale: str = "",
    seed: int | None = None,
    images: int = DIAGNOSED,
    plugins: Several = (),
    project: Text | None = None,
    data: Several = (),
    store: Text | None = None,
    quiet: bool = False,
) -> pandas.DataFrame:
    """What the layers of a trained VAE carry, a row per model and layer; trains nothing.

    `run`: the key of a run or of a fit, or a detector with `pair`.  `images` test images are judged
    and as many training images teach.  The result is kept in the store.  Raises OodbenchError where
    nothing such ran, or its model has no encoder mean.
    """
    import pandas as pd

    from oodbench.diagnosis import diagnose as diagnose_fits
    from oodbench.figures.stored import diagnosed_fits
    from oodbench.tables.diagnoses import diagnosis_rows

    load_plugins(plugins, project)
    location = store_location(store)
    opened, places = Store(location), find_places(arguments.texts("data", data), location)
    progress = Progress("quiet" if quiet else None)
    fits = diagnosed_fits(opened, places, run, pair, scale, seed)
    return pd.DataFrame(diagnosis_rows(diagnose_fits(opened, places, fits, images, progress.say)))


# ---------------------------------------------------------------------- figure
def figure(
    name: str | int,
    *,
    pairs: Several = (),
    detectors: str | Iterable[str] = (),
    scale: str = "",
    seed: int | None = None,
    images: Sequence[int] = (),
    out: Text | None = None,
    values: Text | None = None,
    dpi: int = 200,
    plugins: Several = (),
    project: Text | None = None,
    data: Several = (),
    store: Text | None = None,
) -> Figure:
    """Draw a figure from finished runs, by name or by its number in the LLRada paper.

    The matplotlib figure, which a notebook shows; with `out`, a ``.pdf``, ``.svg`` or ``.png``
    file, it is written too.  `values`: a file for the numbers that ``"settling"`` draws, as CSV.
    Trains and measures nothing.  Raises OodbenchError where what it shows has not run.
    """
    from oodbench.figures.build import build
    from oodbench.figures.chosen_runs import Selection
    from oodbench.figures.names import check_values, find_kind
    from oodbench.figures.style import file_format, write_figure
    from oodbench.store.outputs import write_output

    load_plugins(plugins, project)
    kind = find_kind(str(name))
    target, table = arguments.optional("out", out), arguments.optional("values", values)
    if table is not None:
        check_values(kind)
    if target is not None:
        file_format(target)
    named = tuple(arguments.texts("pairs", pairs))
    asked = tuple(arguments.detectors(detectors))
    location = store_location(store)
    drawn = build(
        kind.name,
        Selection(named, asked, scale, seed, tuple(images)),
        Store(location),
        find_places(arguments.texts("data", data), location),
    )
    if target is not None:
        write_figure(drawn.figure, target, dpi)
    if table is not None:
        write_output(table, drawn.values)
    return drawn.figure


# ---------------------------------------------------------------------- scores of images
def scores(
    run: str,
    *,
    pair: Text | None = None,
    scale: str = "",
    seed: int | None = None,
    statistics: bool = False,
    plugins: Several = (),
    project: Text | None = None,
    store: Text | None = None,
) -> pandas.DataFrame:
    """The scores of every test image of a finished run, higher = more OOD; trains nothing.

    `run`: the key of a run, or ``detector[@recipe]`` with `pair`; then `scale`, by default the
    largest that ran, and `seed`, by default the lowest.  A row per measured image, ID images first:
    side ("id", "ood"), set, index in its test split, compared (whether it counts in the metrics,
    which take as many images of both sides), then a column per score, and with `statistics` one per
    statistic that the detector measured, ``kl_0[2]`` where it has several numbers.

    Raises OodbenchError where nothing ran under that name, or its scores are gone from the store.
    """
    from oodbench.figures.stored import image_scores, named_run

    load_plugins(plugins, project)
    location = store_location(store)
    opened = Store(location)
    found = named_run(opened, run, arguments.optional("pair", pair), scale, seed)
    return image_scores(found, opened, find_places((), location), statistics=statistics)


# ---------------------------------------------------------------------- report
def report(
    out: Text = "report",
    *,
    pairs: Several = (),
    detectors: str | Iterable[str] = (),
    scale: str | None = None,
    all_scores: bool = False,
    significance: bool = True,
    pictures: int = 8,
    explain: bool = False,
    title: str = "oodbench report",
    plugins: Several = (),
    project: Text | None = None,
    data: Several = (),
    store: Text | None = None,
) -> Path:
    """Finished runs as one HTML page that needs nothing else; the file that was written.

    `out`: a folder, made where it is not there, for its ``index.html``, or an ``.html`` file.
    `pictures`: the most and least OOD images of each set that it shows, 0 for none; `explain`: a
    map of the score beside each, where there is one (it runs the stored models).  Raises
    OodbenchError where nothing has run.
    """
    from oodbench.flow.selection import asked_scores, check_scale
    from oodbench.leaderboards.stored_groups import asked_groups
    from oodbench.reports.page import ReportRequest, write_report

    load_plugins(plugins, project)
    check_scale(scale)
    location, folders = store_location(store), arguments.texts("data", data)
    opened = Store(location)
    asked = asked_scores(arguments.detectors(detectors), opened)
    groups = asked_groups(
        opened, location, arguments.texts("pairs", pairs), asked, scale, data=folders
    )
    if not groups:
        raise StoreError(f"no finished run in {location}; `oodbench run` makes some")
    request = ReportRequest(title, all_scores, asked, significance, pictures, explain)
    target = arguments.text("out", out)
    path, _ = write_report(groups, opened, find_places(folders, location), request, target)
    warn_of_changes(entry for group in groups for entry in group.entries)
    return path


# ---------------------------------------------------------------------- publish
def publish(
    folder: Text,
    suites: Several,
    *,
    scale: str = "",
    plugins: Several = (),
    project: Text | None = None,
    store: Text | None = None,
) -> list[Path]:
    """Write tables, costs, provenance and run records of suites into a folder; the files written.

    Raises OodbenchError on a suite that does not exist or of which nothing has run.
    """
    from oodbench.flow.selection import check_scale
    from oodbench.flow.suites import find_suite
    from oodbench.share.publishing import publish as publish_suite
    from oodbench.share.publishing import published_groups

    load_plugins(plugins, project)
    check_scale(scale or None)
    opened, target = Store(store_location(store)), Path(arguments.text("folder", folder))
    written: list[Path] = []
    for suite in [find_suite(name) for name in arguments.texts("suites", suites)]:
        groups = published_groups(opened, suite, scale)
        written += publish_suite(opened, suite, groups, target, scale)[0]
        warn_of_changes(entry for group in groups for entry in group.entries)
    return written
