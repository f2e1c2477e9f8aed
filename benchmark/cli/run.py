"""`oodbench run`: what is asked for becomes jobs, and their results tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import click

from oodbench.cli.cluster.workers import (
    WorkerOptions,
    failures_last,
    make_workers,
    worker_options,
)
from oodbench.cli.options import (
    BenchOptions,
    asked_options,
    bench_options,
    console,
    failures_first,
    make_bench,
    note_untrusted,
    overrides_of,
    plugin_option,
    print_boxed,
    wide_option,
)
from oodbench.cli.store import note_changes
from oodbench.media import rich_text, terminal

if TYPE_CHECKING:
    from oodbench.flow.bench import Bench
    from oodbench.flow.missing_steps import Step
    from oodbench.flow.plan import Job
    from oodbench.flow.selection import Selection
    from oodbench.store.store import Entry


class RunOptions(BenchOptions, WorkerOptions):
    """How to run, and who does."""


@click.command()
@asked_options
@bench_options
@worker_options
@plugin_option
@click.option(
    "--all-scores", is_flag=True, help="Also print L>k, KL<=k of k < L, KL>k, LLR_ada_eq11."
)
@wide_option
@click.option("--dry-run", is_flag=True, help="Say what is missing; make nothing.")
def run(
    pairs: tuple[str, ...], in_dist: str | None, oods: tuple[str, ...], suite: str | None,
    detectors: tuple[str, ...], seeds: int, first_seed: int, scale: str | None, recipe: str,
    both: bool, settings: tuple[str, ...], precision: str | None, all_scores: bool, wide: bool,
    dry_run: bool,
    **how: Unpack[RunOptions],
) -> None:  # fmt: skip
    """Train what is missing, measure, score, and print the table of every pair."""
    from oodbench.flow.selection import choose

    chosen = choose(pairs, in_dist, oods, suite, detectors, scale, recipe, both)
    overrides = overrides_of(settings, precision)
    if settings:
        _note_without_recipe(chosen)
    jobs = chosen.jobs(range(first_seed, first_seed + seeds), overrides)
    workers = make_workers(how)
    bench = make_bench(how)
    if dry_run:
        _print_missing(bench, jobs)
        note_untrusted(bench.store)
        return
    from oodbench.store.maintenance import needed

    if workers.planned:
        from oodbench.flow.executors.planned import run_planned

        outcome = run_planned(bench, jobs, workers)
        told = failures_last if outcome.entries else failures_first
    else:
        from oodbench.flow.executors.local import run_jobs

        outcome, told = run_jobs(bench, jobs), failures_first
    with told(outcome.failures):
        note_changes(needed(bench.store, outcome.entries).values())
        note_untrusted(bench.store)
        _print_tables(chosen, outcome.entries, all_scores=all_scores, wide=wide)


def _note_without_recipe(chosen: Selection) -> None:
    """One line on the detectors that --set says nothing to; OodbenchError where that is all."""
    from oodbench.cli.store import note_lines
    from oodbench.errors import OodbenchError

    requests = chosen.asked.values()
    without = [request.name for request in requests if not request.detector.recipe_variant]
    if len(without) == len(requests):
        raise OodbenchError(f"--set changes recipes, and {', '.join(without)} has none")
    if without:
        note_lines([f"--set changes recipes; {', '.join(without)} stands on none"])


def _print_missing(bench: Bench, jobs: Sequence[Job]) -> None:
    from oodbench.flow.missing_steps import missing_of_all

    steps, failures = missing_of_all(bench, jobs)
    with failures_first(failures):
        for step in steps:
            cost = [f"{step.images:,} images"] if step.images else []
            cost += [f"about {step.seconds / 60:.0f} min"] if step.seconds is not None else []
            cost += [f"{step.memory / 2**20:,.0f} MB"] if step.memory is not None else []
            click.echo(terminal(step.text) + (f" ({', '.join(cost)})" if cost else ""))
        if steps or not failures:
            print_total(steps)


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
            " of stored fits of the same recipes, or of one step of a derived one"
        )


def _print_tables(
    chosen: Selection, entries: Sequence[Entry], *, all_scores: bool, wide: bool
) -> None:
    from oodbench.leaderboards.board import shown_scores
    from oodbench.leaderboards.rows import group_runs, make_rows
    from oodbench.tables.after_run import caption, diagnostics_table, score_table
    from oodbench.tables.classifiers import classifiers_table
    from oodbench.tables.extra_columns import parse_columns, year_of
    from oodbench.tables.sources.reported_scores import Papers

    dated = "year" in parse_columns(",".join(chosen.columns))
    out, papers = console(wide=wide), Papers()
    groups = group_runs(entries)
    for pair in chosen.pairs:
        own = [
            g for g in groups if (g.first["in_dist"], g.first["ood"]) == (pair.in_dist, pair.ood)
        ]
        rows, paper, years = [], [], []
        for group in own:
            request = chosen.asked[str(group.first["detector"])]
            shown = shown_scores(group, request, all_scores)
            rows += make_rows(group, shown)
            found = [papers.auroc(group, score) for score in shown]
            paper += [one.number.printed if one else "" for one in found]
            years += [year_of(group.first) if dated else ""] * len(shown)
        if not rows:
            continue
        if pair.reading:
            out.print(rich_text(pair.reading + "\n"))
        title = f"{pair.name} (ID: {pair.in_dist}, OOD: {pair.ood})"
        print_boxed(out, score_table(title, rows, caption(rows), paper, years=years), "")
    for models in (diagnostics_table(groups), classifiers_table(groups)):
        if models is not None:
            print_boxed(out, models)
