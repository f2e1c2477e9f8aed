"""The command `oodbench scores`: what every image of a run scored, as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from oodbench.cli.options import data_option, plugin_option, store_option
from oodbench.errors import OodbenchError
from oodbench.media import csv_cell
from oodbench.store.outputs import write_output

if TYPE_CHECKING:
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
    from oodbench.figures.stored import image_scores, named_run
    from oodbench.store.store import Store

    opened, places = Store(store), find_places(data, store)
    found = named_run(opened, run, pair, scale, seed)
    frame, notes = _with_files(image_scores(found, opened, places), found, opened, places)
    texts = {name: frame[name].map(csv_cell) for name in ("set", "file")}
    text = frame.assign(**texts).to_csv(index=False)
    for note in notes:
        click.echo(f"oodbench: note: {note}", err=True)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_output(out, text)


def _with_files(
    frame: pandas.DataFrame, run: Entry, store: Store, places: DataPlaces
) -> tuple[pandas.DataFrame, list[str]]:
    """The frame with file names and labels where they are known, and what a reader must know."""
    import pandas as pd

    from oodbench.datasets.image_names import image_names
    from oodbench.figures.stored import Stored

    notes = []
    try:
        images: list[ImageSet | None] = [*Stored(store, places).images(run)]
    except OodbenchError as error:  # gone, or another set under that name
        images = [None, None]
        notes.append(f"files and labels are left empty: {error}")
    files: list[str] = []
    labels: list[int | None] = []
    in_dist = str(run.record["in_dist"])
    for side, found in zip(("id", "ood"), images, strict=True):
        own = frame[frame["side"] == side]
        names = None
        if found is not None:
            names = image_names(
                str(own["set"].iloc[0]), "test", divide=side == "id", beside=in_dist
            )
        held = None if found is None else found.labels
        files += ["" if names is None else names[i] for i in own["index"]]
        labels += [None if held is None else int(held[i]) for i in own["index"]]
    told = frame.assign(compared=frame["compared"].map({True: "yes", False: "no"}))
    told.insert(3, "file", files)
    told.insert(4, "label", pd.Series(labels, dtype="Int64", index=told.index))
    return told, notes
