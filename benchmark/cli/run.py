"""`oodbench run`: what is asked for becomes jobs, and their results tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import click

from oodbench.cli.options import (
    BenchOptions,
    bench_options,
    console,
    make_bench,
    note_untrusted,
    plugin_option,
    precision_option,
    seed_options,
)
from oodbench.cli.store import note_changes
from oodbench.media import rich_text, terminal

if TYPE_CHECKING:
    from oodbench.flow.bench import Bench
    from oodbench.flow.missing_steps import Step
    from oodbench.flow.plan import Job
    from oodbench.flow.selection import Selection
    from oodbench.store.store import Entry


@click.command()
@click.option("--pair", "pairs", multiple=True, metavar="NAME", help="A pair, e.g. cifar10-svhn.")
@click.option("--in-dist", metavar="DATA", help="ID set: a name, an .npz file or a folder.")
@click.option("--ood", "oods", multiple=True, metavar="DATA", help="OOD set; may be repeated.")
@click.option("--suite", metavar="NAME", help="Pairs and detectors of a suite.")
@click.option(
    "--detector",
    "detectors",
    multiple=True,
    metavar="NAME[@RECIPE][:SCORE]",
    help="A detector; may be repeated. Default: the HVAEs and the trivial detectors.",
)
@seed_options
@click.option(
    "--scale",
    default=None,
    metavar="paper|small|smoke",
    help="Size of the recipes: paper (a GPU), small (a laptop), smoke (seconds).  [small]",
)
@click.option("--recipe", default="", metavar="NAME", help="Recipe for every detector, e.g. F5.")
@click.option("--both", is_flag=True, help="Also the pairs with ID and OOD exchanged.")
@precision_option
@bench_options
@plugin_option
@click.option("--all-scores", is_flag=True, help="Also print L>k, KL<=k, KL>k and LLR_ada_eq11.")
@click.option("--dry-run", is_flag=True, help="Say what is missing; make nothing.")
def run(
    pairs: tuple[str, ...], in_dist: str | None, oods: tuple[str, ...], suite: str | None,
    detectors: tuple[str, ...], seeds: int, first_seed: int, scale: str | None, recipe: str,
    both: bool, precision: str | None, all_scores: bool, dry_run: bool,
    **how: Unpack[BenchOptions],
) -> None:  # fmt: skip
    """Train what is missing, measure, score, and print the table of every pair."""
    from oodbench.flow.selection import choose

    chosen = choose(pairs, in_dist, oods, suite, detectors, scale, recipe, both)
    overrides = {"training": {"precision": precision}} if precision else None
    jobs = chosen.jobs(range(first_seed, first_seed + seeds), overrides)
    bench = make_bench(how)
    if dry_run:
        _print_missing(bench, jobs)
        note_untrusted(bench.store)
        return
    from oodbench.flow.executors.local import raise_failures, run_jobs
    from oodbench.store.maintenance import needed

    outcome = run_jobs(bench, jobs)
    _print_tables(chosen, outcome.entries, all_scores=all_scores)
    note_changes(needed(bench.store, outcome.entries).values())
    note_untrusted(bench.store)
    raise_failures(outcome)


def _print_missing(bench: Bench, jobs: Sequence[Job]) -> None:
    from oodbench.flow.executors.local import raise_failures
    from oodbench.flow.missing_steps import missing_of_all
    from oodbench.flow.perform import Outcome

    steps, failures = missing_of_all(bench, jobs)
    for step in steps:
        cost = [f"{step.images:,} images"] if step.images else []
        cost += [f"about {step.seconds / 60:.0f} min"] if step.seconds is not None else []
        click.echo(terminal(step.text) + (f" ({', '.join(cost)})" if cost else ""))
    print_total(steps)
    raise_failures(Outcome(failures=failures))


def print_total(steps: Sequence[Step]) -> None:
    """How many steps are missing, the images to train on, and how long that takes if known."""
    if not steps:
        click.echo("nothing is missing")
        return
    fits = [step for step in steps if step.text.startswith("fit ")]
    known = [step.seconds for step in fits if step.seconds is not None]
    click.echo(f"{len(steps)} steps are missing; training: {sum(s.images for s in fits):,} images")
    if known:
        click.echo(
            f"about {sum(known) / 60:.0f} min for {len(known)} of {len(fits)} fits, by the speed"
            " of stored fits of the same recipes"
        )


def _print_tables(chosen: Selection, entries: Sequence[Entry], *, all_scores: bool) -> None:
    from oodbench.leaderboards.board import shown_scores
    from oodbench.leaderboards.rows import group_runs, make_rows
    from oodbench.tables.after_run import caption, diagnostics_table, score_table
    from oodbench.tables.classifiers import classifiers_table
    from oodbench.tables.sources.reported_scores import Papers

    out, papers = console(), Papers()
    groups = group_runs(entries)
    for pair in chosen.pairs:
        own = [
            g for g in groups if (g.first["in_dist"], g.first["ood"]) == (pair.in_dist, pair.ood)
        ]
        rows, paper = [], []
        for group in own:
            request = chosen.asked[str(group.first["detector"])]
            shown = shown_scores(group, request, all_scores)
            rows += make_rows(group, shown)
            found = [papers.auroc(group, score) for score in shown]
            paper += [one.number.printed if one else "" for one in found]
        if not rows:
            continue
        if pair.reading:
            out.print(rich_text(pair.reading + "\n"))
        out.print(score_table(f"{pair.name} (ID: {pair.in_dist}, OOD: {pair.ood})", rows,
                                  caption(rows), paper))  # fmt: skip
        out.print()
    for models in (diagnostics_table(groups), classifiers_table(groups)):
        if models is not None:
            out.print(models)
