"""The command `oodbench diagnose`: what the layers of a trained model carry; it trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from oodbench.cli.options import console, data_option, store_option
from oodbench.errors import ConfigError
from oodbench.media import rich_text, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oodbench.datasets.loading import DataPlaces
    from oodbench.store.store import Entry, Store

IMAGES = 2000


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--pair", metavar="NAME", help="The pair, where RUN is a detector.")
@click.option("--scale", default="", metavar="paper|small|smoke", help="[the largest that ran]")
@click.option("--seed", type=click.IntRange(0), help="Training seed.  [the first that ran]")
@click.option("--images", type=click.IntRange(2), default=IMAGES, show_default=True,
              help="Test images to judge, and as many training images to learn from.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["table", "csv", "json"]), default="table",
              show_default=True)  # fmt: skip
@data_option
@store_option
def diagnose(
    run: str, pair: str | None, scale: str, seed: int | None, images: int, format_: str,
    data: tuple[str, ...], store: str,
) -> None:  # fmt: skip
    """Which layers of a trained VAE carry information, and a certificate where there is one.

    RUN is the key of a run or of a fit, or DETECTOR[@RECIPE] with --pair. The result is kept in
    the store, where `leaderboard --columns diagnostics` finds it.
    """
    from oodbench.datasets.loading import find_places
    from oodbench.diagnosis import diagnose as diagnose_fits
    from oodbench.store.store import Store
    from oodbench.tables.diagnoses import diagnosis_csv, diagnosis_json, diagnosis_table, sentence

    opened, places = Store(store), find_places(data, store)
    fits = _fits(opened, places, run, pair, scale, seed)

    def say(message: str) -> None:
        click.echo(terminal(message), err=True)

    found = diagnose_fits(opened, places, fits, images, say)
    if format_ == "csv":
        click.echo(diagnosis_csv(found), nl=False)
    elif format_ == "json":
        click.echo(diagnosis_json(found))
    else:
        printer = console()
        for entry in found:
            printer.print(diagnosis_table(entry))
            printer.print(rich_text(sentence(entry)))


def _fits(
    store: Store, places: DataPlaces, run: str, pair: str | None, scale: str, seed: int | None
) -> Sequence[Entry]:
    """The fits that RUN names; ConfigError on a detector without a pair."""
    from oodbench.figures.chosen_runs import Runs, Selection
    from oodbench.figures.stored import Stored

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
