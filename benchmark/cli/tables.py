"""The commands that read results: `leaderboard` and `compare`; they train nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from oodbench.cli.options import (
    collector_paused,
    console,
    plugin_option,
    print_boxed,
    store_option,
    table_width,
    wide_option,
)
from oodbench.cli.store import note_changes, note_lines
from oodbench.media import terminal_lines
from oodbench.output_encoding import in_full
from oodbench.store.outputs import write_output
from oodbench.store.places import shown

if TYPE_CHECKING:
    from oodbench.leaderboards.rows import Group
    from oodbench.tables.request import TableRequest

FORMATS = ("table", "csv", "latex", "markdown", "html", "json")


@click.command()
@click.option("--suite", metavar="NAME", help="The runs of a suite, in its layout.")
@click.option("--layout", metavar="NAME", help="A published table (table1 …, rst), or general.")
@click.option("--pair", "pairs", multiple=True, metavar="NAME", help="Only this pair.")
@click.option("--detector", "detectors", multiple=True, metavar="NAME[:SCORE]",
              help="Only this detector.")  # fmt: skip
@click.option("--scale", metavar="paper|small|smoke", help="Only runs of this scale.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table",
              show_default=True, help="Of the table.")  # fmt: skip
@click.option("--shape", type=click.Choice(["tidy", "table"]), default="tidy", show_default=True,
              help="CSV: one line per number, or as the table is printed.")  # fmt: skip
@click.option("--compare", "paper", type=click.Choice(["paper"]),
              help="Ours, its interval, the paper's, the difference.")  # fmt: skip
@click.option("--columns", "extras", default="",
              metavar="cost,diagnostics,classifier,id-positive,paper,reverse,trivial,year",
              help="More columns of the general layout, in place of a suite's own.")  # fmt: skip
@click.option("--all-scores", is_flag=True,
              help="General layout: also L>k, KL<=k of k < L, KL>k, LLR_ada_eq11.")  # fmt: skip
@click.option("--significance/--no-significance", default=True, show_default=True,
              help="General layout: paired tests against the best of every pair.")  # fmt: skip
@click.option("--mean", "means", multiple=True, metavar="all|near|far|NAME=SET,SET",
              help="Means over OOD sets as more rows; near and far as in OpenOOD where no sets"
              " are named.")  # fmt: skip
@click.option("--sort", default=None, metavar="METRIC|name",
              help="auroc, auprc, fpr80 or fpr95: the best first within a pair.  [auroc; name in"
              " a suite]")  # fmt: skip
@wide_option
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Write it there.")
@plugin_option
@store_option
def leaderboard(
    suite: str | None, layout: str | None, pairs: tuple[str, ...], detectors: tuple[str, ...],
    scale: str | None, format_: str, shape: str, paper: str | None, extras: str, all_scores: bool,
    significance: bool, means: tuple[str, ...], sort: str | None, wide: bool, out: str | None,
    store: str,
) -> None:  # fmt: skip
    """Finished runs of the store as a table, in a general or in a paper's layout."""
    from oodbench.flow.selection import asked_scores, check_scale
    from oodbench.flow.suites import find_suite
    from oodbench.leaderboards.ordering import NAME, checked_order
    from oodbench.leaderboards.rows import left_out_notes
    from oodbench.leaderboards.set_means import parse_means
    from oodbench.leaderboards.stored_groups import asked_groups
    from oodbench.store.store import Store
    from oodbench.tables.extra_columns import parse_columns
    from oodbench.tables.request import TableRequest, suite_groups, table_text

    check_scale(scale)
    chosen = find_suite(suite) if suite else None
    opened = Store(store)
    asked = asked_scores(detectors, opened)
    table = layout or (chosen.layout if chosen else "") or "general"
    own = ",".join(chosen.columns) if chosen is not None and table == "general" else ""
    request = TableRequest(
        layout=table,
        title=chosen.title if chosen else "Leaderboard",
        scale=scale or "",
        format=format_,
        shape=shape,
        paper=paper is not None,
        extras=tuple(parse_columns(extras or own)),
        all_scores=all_scores,
        significance=significance,
        width=table_width(out is not None, wide),
        means=parse_means(means),
        sort=checked_order(sort or (NAME if suite else "auroc")),
        asked=asked,
        name=chosen.name if chosen else "",
    )
    plain = not (layout or suite or extras or paper) and (format_ == "table" or request.is_tidy)
    with collector_paused(), in_full(out is not None):
        groups = asked_groups(opened, store, pairs, asked, scale, chosen)
        if plain:
            text = _plain(groups, request, store, to_file=out is not None, wide=wide)
        else:
            groups = suite_groups(groups, chosen) if chosen else groups
            styled = out is None and sys.stdout.isatty()
            text = table_text(groups, opened, request, styled=styled)
    note_changes(entry for group in groups for entry in group.entries)
    note_lines(left_out_notes(groups))
    if out is None:
        click.echo(text, nl=False)
        return
    write_output(out, text)


def _plain(
    groups: Sequence[Group], request: TableRequest, store: str, *, to_file: bool, wide: bool,
) -> str:  # fmt: skip
    """Every run with every score: a table per pair and one of models, tidy CSV or JSON."""
    from oodbench.leaderboards.board import shown_scores
    from oodbench.leaderboards.named_runs import request_for
    from oodbench.leaderboards.ordering import NAME, best_first
    from oodbench.leaderboards.row_formats import to_csv, to_json
    from oodbench.leaderboards.rows import make_rows
    from oodbench.tables.request import means_of

    asked = request.asked
    made = [make_rows(g, shown_scores(g, request_for(g, asked), True)) for g in groups]
    rows = best_first([row for part in made for row in part], request.sort)
    rows += means_of(groups, replace(request, all_scores=True))
    if request.format == "csv":
        return to_csv(rows)
    if request.format == "json":
        return to_json(rows) + "\n"
    if not rows:
        return f"no finished run in {shown(store)}; `oodbench run` makes some\n"
    from oodbench.tables.after_run import caption, diagnostics_table, score_table
    from oodbench.tables.classifiers import classifiers_table

    printer = console(to_file, wide)
    with printer.capture() as captured:
        for pair in dict.fromkeys(row.pair for row in rows):
            part = [row for row in rows if row.pair == pair]
            print_boxed(
                printer, score_table(pair, part, caption(part), ranked=request.sort != NAME)
            )
        for models in (diagnostics_table(groups), classifiers_table(groups)):
            if models is not None:
                print_boxed(printer, models)
    return captured.get()


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--pair", required=True, metavar="NAME", help="The pair both ran on.")
@click.option("--scale", metavar="paper|small|smoke", help="Only runs of this scale.")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table",
              show_default=True, help="Sentences, or every number.")  # fmt: skip
@plugin_option
@store_option
def compare(a: str, b: str, pair: str, scale: str | None, format_: str, store: str) -> None:
    """The difference of two AUROCs on one pair, with its interval and p-value.

    A and B are DETECTOR[@RECIPE][:SCORE]. Both are compared on the same test images (paired
    DeLong), seed by seed; with several seeds, training is shown as a second source of variance.
    """
    import json

    from oodbench.flow.selection import check_scale
    from oodbench.leaderboards.head_to_head import compare_runs, comparison_json, comparison_text
    from oodbench.store.store import Store

    check_scale(scale)
    found = compare_runs(Store(store), a, b, pair, scale or "")
    if format_ == "json":
        click.echo(json.dumps(comparison_json(found), indent=1))
    else:
        click.echo(terminal_lines(comparison_text(found)), nl=False)
