"""The command that draws: `oodbench figure`; it trains and measures nothing."""

from __future__ import annotations

import click

from oodbench.cli.options import data_option, plugin_option, print_columns, store_option
from oodbench.media import terminal


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--pair", "pairs", multiple=True, metavar="NAME",
              help="A pair that ran; several give several panels.")  # fmt: skip
@click.option("--detector", "detectors", multiple=True, metavar="NAME[@RECIPE][:SCORE]",
              help="A detector that ran; may be repeated.")  # fmt: skip
@click.option("--scale", default="", metavar="paper|small|smoke", help="[the largest that ran]")
@click.option("--seed", type=click.IntRange(0), help="Training seed.  [the first that ran]")
@click.option("--image", "images", type=click.IntRange(0), multiple=True, metavar="INDEX",
              help="A test image to decode; may be repeated.  [some fixed ones]")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE",
              help="A .pdf, .svg or .png file.  [NAME-PAIR.pdf]")  # fmt: skip
@click.option("--values", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write the numbers that settling draws there, as CSV.")  # fmt: skip
@click.option("--dpi", type=click.IntRange(20, 2400), default=200, show_default=True,
              help="Resolution of a PNG, and of images inside a PDF or SVG.")  # fmt: skip
@plugin_option
@data_option
@store_option
def figure(
    name: str, pairs: tuple[str, ...], detectors: tuple[str, ...], scale: str, seed: int | None,
    images: tuple[int, ...], out: str | None, values: str | None, dpi: int, data: tuple[str, ...],
    store: str,
) -> None:  # fmt: skip
    """Draw a figure from finished runs; `oodbench figure list` says which there are.

    NAME is a figure's name, or its number in the LLRada paper.
    """
    if name == "list":
        _print_list()
        return
    from oodbench.figures.names import check_values, find_kind

    kind = find_kind(name)
    if values is not None:
        check_values(kind)
    from oodbench.datasets.loading import find_places
    from oodbench.figures.build import build
    from oodbench.figures.chosen_runs import Selection
    from oodbench.figures.style import file_format, write_figure
    from oodbench.store.outputs import write_output
    from oodbench.store.store import Store

    if out is not None:
        file_format(out)
    selection = Selection(pairs, detectors, scale, seed, images)
    drawn = build(kind.name, selection, Store(store), find_places(data, store))
    path = out or f"{'-'.join((kind.name, *drawn.pairs))}.pdf"
    write_figure(drawn.figure, path, dpi)
    if values is not None:
        write_output(values, drawn.values)
    click.echo(terminal(f"{path}: {kind.title}"))
    for note in drawn.notes:
        click.echo(f"  {terminal(note)}")


def _print_list() -> None:
    from oodbench.figures.names import KINDS

    rows = [("FIGURE", "PAPER", "DETECTORS", "TITLE")]
    for kind in KINDS.values():
        numbers = ", ".join(map(str, kind.numbers)) or "-"
        rows.append((kind.name, numbers, " ".join(kind.detectors) or "all", kind.title))
    print_columns(rows)
