"""The command `oodbench diagnose`: what the layers of a trained model carry; it trains nothing."""

from __future__ import annotations

import click

from oodbench.cli.options import (
    console,
    data_option,
    plugin_option,
    print_boxed,
    store_option,
    wide_option,
)
from oodbench.media import rich_text, terminal

IMAGES = 2000


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
@click.option("--images", type=click.IntRange(2), default=IMAGES, show_default=True,
              help="Test images to judge, and as many training images to learn from.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["table", "csv", "json"]), default="table",
              show_default=True, help="A table and a sentence, or every number.")  # fmt: skip
@wide_option
@plugin_option
@data_option
@store_option
def diagnose(
    run: str, pair: str | None, scale: str, seed: int | None, images: int, format_: str,
    wide: bool, data: tuple[str, ...], store: str,
) -> None:  # fmt: skip
    """Which layers of a trained VAE carry information, and a certificate where there is one.

    RUN is the key of a run or of a fit, or DETECTOR[@RECIPE] with --pair. The result is kept in
    the store, where `leaderboard --columns diagnostics` finds it.
    """
    from oodbench.datasets.loading import find_places
    from oodbench.diagnosis import diagnose as diagnose_fits
    from oodbench.figures.stored import diagnosed_fits
    from oodbench.store.store import Store
    from oodbench.tables.diagnoses import diagnosis_csv, diagnosis_json, diagnosis_table, sentence

    opened, places = Store(store), find_places(data, store)
    fits = diagnosed_fits(opened, places, run, pair, scale, seed)

    def say(message: str) -> None:
        click.echo(terminal(message), err=True)

    found = diagnose_fits(opened, places, fits, images, say)
    if format_ == "csv":
        click.echo(diagnosis_csv(found), nl=False)
    elif format_ == "json":
        click.echo(diagnosis_json(found))
    else:
        printer = console(wide=wide)
        for entry in found:
            print_boxed(printer, diagnosis_table(entry), rich_text(sentence(entry)))
