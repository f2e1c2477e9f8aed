"""The command `oodbench scores`: what every image of a run scored, as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from oodbench.cli.options import data_option, plugin_option, store_option
from oodbench.errors import ConfigError, OodbenchError
from oodbench.media import csv_cell
from oodbench.store.outputs import write_output

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from oodbench.datasets.imageset import ImageSet
    from oodbench.datasets.loading import DataPlaces
    from oodbench.store.store import Entry, Store


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--pair",
    metavar="NAME",
    help="The pair, where RUN is a detector.",
)
@click.option(
    "--scale",
    default="",
    metavar="paper|small|smoke",
    help="[the largest that ran]",
)
@click.option("--seed", type=click.IntRange(0), help="Training seed.  [the first that ran]")
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE",
              help="CSV file.  [standard output]")  # fmt: skip
@plugin_option
@data_option
@store_option
def scores(
    run: str, pair: str | None, scale: str, seed: int | None, out: str | None,
    data: tuple[str, ...], store: str,
) -> None:  # fmt: skip
    """The scores of every test image of a finished run, as CSV; higher = more OOD.

    RUN is the key of a run, or DETECTOR[@RECIPE] with --pair. Columns: side (id, ood), set, index
    in its test split, file and label where they are known, compared (yes: it counts in the
    metrics, which take as many images of both sides), then a column per score.
    """
    from oodbench.datasets.loading import find_places
    from oodbench.store.store import Store

    opened, places = Store(store), find_places(data, store)
    frame, notes = _image_scores(_run(opened, places, run, pair, scale, seed), opened, places)
    texts = {name: frame[name].map(csv_cell) for name in ("set", "file")}
    text = frame.assign(**texts).to_csv(index=False)
    for note in notes:
        click.echo(f"oodbench: note: {note}", err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_output(out, text)


def _run(
    store: Store, places: DataPlaces, run: str, pair: str | None, scale: str, seed: int | None
) -> Entry:
    """The run that RUN names; ConfigError on a detector without a pair."""
    from oodbench.figures.chosen_runs import Runs, Selection

    if pair is not None:
        runs = Runs(store, Selection((pair,), (run,), scale, seed))
        return runs.choose(runs.pairs[0])[0].run
    if any(c not in "0123456789abcdef" for c in run):
        raise ConfigError(f"{run!r} is no key of a run; to name a detector, add --pair NAME")
    return store.resolve(run, ("run",))


def _image_scores(
    run: Entry, store: Store, places: DataPlaces
) -> tuple[pandas.DataFrame, list[str]]:
    """A row per measured image of both sides, the ID images first, and what a reader must know.

    Raises MissingRunError where the scores are gone from the store.
    """
    import numpy as np
    import pandas as pd

    from oodbench.datasets.image_names import image_names
    from oodbench.figures.stored import Stored

    stored, notes = Stored(store, places), []
    try:
        images: list[ImageSet | None] = [*stored.images(run)]
    except OodbenchError as error:  # gone, or another set under that name
        images = [None, None]
        notes.append(f"files and labels are left empty: {error}")
    first = next(iter(stored.scores(run)[0]))
    compared = stored.compared(run, first)
    rows = compared.id_rows, compared.ood_rows
    frames = []
    in_dist = str(run.record["in_dist"])
    for side, (name, table, measured) in enumerate(
        zip((in_dist, str(run.record["ood"])), stored.scores(run), stored.statistics(run),
            strict=True)
    ):  # fmt: skip
        count = len(next(iter(table.values())))
        index = np.asarray(measured["index"] if "index" in measured else np.arange(count))
        found, files = images[side], None
        if found is not None:
            files = image_names(name, "test", divide=side == 0, beside=in_dist)
        labels = None if found is None or found.labels is None else found.labels[index]
        counted = np.isin(np.arange(count), _members(rows[side], compared.members, count))
        frames.append(pd.DataFrame({
            "side": ("id", "ood")[side],
            "set": name,
            "index": index,
            "file": "" if files is None else [files[i] for i in index],
            "label": pd.array([None] * count if labels is None else labels.tolist(), dtype="Int64"),
            "compared": np.where(counted, "yes", "no"),
            **table,
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True), notes


def _members(rows: np.ndarray, size: int, count: int) -> np.ndarray:
    """The rows of images behind those that were compared, all of a group's where groups were."""
    if size == 1:
        return rows
    import numpy as np

    from oodbench.rank.metrics import group_members

    groups = group_members(count, size)
    return groups[np.isin(groups[:, 0], rows)].ravel()
