"""The command `report`: one HTML page of what a store holds; it trains and measures nothing."""

from __future__ import annotations

import click

from oodbench.cli.options import collector_paused, data_option, plugin_option, store_option
from oodbench.errors import StoreError
from oodbench.media import terminal
from oodbench.store.places import shown


@click.command()
@click.option("--out", default="report", show_default=True, metavar="FOLDER|FILE.html",
              help="Where to write: index.html in a folder, or a file.")  # fmt: skip
@click.option("--pair", "pairs", multiple=True, metavar="NAME", help="Only this pair.")
@click.option("--detector", "detectors", multiple=True, metavar="NAME[:SCORE]",
              help="Only this detector.")  # fmt: skip
@click.option("--scale", metavar="paper|small|smoke", help="Only runs of this scale.")
@click.option("--all-scores", is_flag=True, help="Also L>k, KL<=k of k < L and LLR_ada_eq11.")
@click.option("--significance/--no-significance", default=True, show_default=True,
              help="Paired tests against the best and the best trivial one of a pair.")  # fmt: skip
@click.option("--pictures", type=click.IntRange(0, 50), default=8, show_default=True,
              help="Most and least OOD images shown of each set; 0 for none.")  # fmt: skip
@click.option("--explain", is_flag=True,
              help="A map below every picture: what each pixel adds to the score, and the KL of"
              " the layers. It runs the stored models of detectors that have one.")  # fmt: skip
@click.option("--title", default="oodbench report", show_default=True, help="Of the page.")
@plugin_option
@data_option
@store_option
def report(
    out: str, pairs: tuple[str, ...], detectors: tuple[str, ...], scale: str | None,
    all_scores: bool, significance: bool, pictures: int, explain: bool, title: str,
    data: tuple[str, ...], store: str,
) -> None:  # fmt: skip
    """Finished runs of the store as one HTML page that needs nothing else.

    A leaderboard that sorts and filters; a row opens ROC curve, score densities, the most and
    least OOD images (of data sets found on this machine), diagnostics, cost and provenance.
    """
    from oodbench.datasets.loading import find_places
    from oodbench.flow.selection import asked_scores, check_scale
    from oodbench.leaderboards.stored_groups import asked_groups
    from oodbench.reports.page import ReportRequest, write_report
    from oodbench.store.store import Store

    check_scale(scale)
    opened, places = Store(store), find_places(data, store)
    asked = asked_scores(detectors, opened)
    with collector_paused():
        groups = asked_groups(opened, store, pairs, asked, scale, data=data)
        if not groups:
            raise StoreError(f"no finished run in {shown(store)}; `oodbench run` makes some")
        request = ReportRequest(title, all_scores, asked, significance, pictures, explain)
        path, size = write_report(groups, opened, places, request, out)
    click.echo(f"{terminal(str(path))}: {size / 1e6:.1f} MB, open it in a browser")
