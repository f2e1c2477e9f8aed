"""The command `report`: one HTML page of what a store holds; it trains and measures nothing."""

from __future__ import annotations

from pathlib import Path

import click

from oodbench.cli.options import collector_paused, data_option, plugin_option, store_option
from oodbench.errors import OodbenchError, StoreError
from oodbench.media import terminal
from oodbench.store.outputs import write_output


@click.command()
@click.option("--out", default="report", show_default=True, metavar="FOLDER|FILE.html",
              help="Where to write: index.html in a folder, or a file.")  # fmt: skip
@click.option("--pair", "pairs", multiple=True, metavar="NAME")
@click.option("--detector", "detectors", multiple=True, metavar="NAME[:SCORE]")
@click.option("--scale", metavar="paper|small|smoke")
@click.option("--all-scores", is_flag=True, help="Also L>k, KL<=k and LLR_ada_eq11.")
@click.option("--significance/--no-significance", default=True, show_default=True,
              help="Paired tests against the best and the best trivial one of a pair.")  # fmt: skip
@click.option("--pictures", type=click.IntRange(0, 50), default=8, show_default=True,
              help="Most and least OOD images shown of each set; 0 for none.")  # fmt: skip
@click.option("--title", default="oodbench report", show_default=True)
@plugin_option
@data_option
@store_option
def report(
    out: str, pairs: tuple[str, ...], detectors: tuple[str, ...], scale: str | None,
    all_scores: bool, significance: bool, pictures: int, title: str, data: tuple[str, ...],
    store: str,
) -> None:  # fmt: skip
    """Finished runs of the store as one HTML page that needs nothing else.

    A leaderboard that sorts and filters; a row opens ROC curve, score densities, the most and
    least OOD images (of data sets found on this machine), diagnostics, cost and provenance.
    """
    from oodbench.datasets.loading import find_places
    from oodbench.flow.selection import asked_scores, check_scale
    from oodbench.leaderboards.stored_groups import asked_groups
    from oodbench.report.page import ReportRequest, report_page
    from oodbench.store.store import Store

    check_scale(scale)
    asked = asked_scores(detectors)
    opened, places = Store(store), find_places(data, store)
    target = Path(out) if out.endswith((".html", ".htm")) else Path(out) / "index.html"
    with collector_paused():
        groups = asked_groups(opened, store, pairs, asked, scale, data=data)
        if not groups:
            raise StoreError(f"no finished run in {store}; `oodbench run` makes some")
        request = ReportRequest(title, all_scores, asked, significance, pictures)
        text = report_page(groups, opened, places, request)
    page = text.encode()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OodbenchError(f"cannot write to {target.parent}: {error.strerror}") from error
    write_output(target, page)
    click.echo(f"{terminal(str(target))}: {len(page) / 1e6:.1f} MB, open it in a browser")
