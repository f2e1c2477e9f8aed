"""`oodbench run`: what is asked for becomes jobs, and their results tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from oodbench.cli_store import note_changes
from oodbench.clitools import console, data_option, load_plugins, plugin_option, store_option
from oodbench.errors import OodbenchError

if TYPE_CHECKING:
    from oodbench.pairs import Pair
    from oodbench.plan import DetectorRequest


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
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Number of training seeds.",
)
@click.option("--first-seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--scale",
    default=None,
    metavar="paper|small|smoke",
    help="Size of the recipes: paper (a GPU), small (a laptop), smoke (seconds).  [small]",
)
@click.option("--recipe", default="", metavar="NAME", help="Recipe for every detector, e.g. F5.")
@click.option("--both", is_flag=True, help="Also the pairs with ID and OOD exchanged.")
@data_option
@store_option
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Training precision.")
@click.option("--compile", "compile_", is_flag=True, help="Use torch.compile.")
@click.option("--batch-size", type=click.IntRange(1), help="Images per batch while measuring.")
@click.option("--checkpoint-seconds", type=click.FloatRange(0), default=60.0, show_default=True)
@plugin_option
@click.option("--all-scores", is_flag=True, help="Also print L>k, KL<=k, KL>k and LLR_ada_eq11.")
@click.option("--dry-run", is_flag=True, help="Say what is missing; make nothing.")
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
def run(
    pairs: tuple[str, ...], in_dist: str | None, oods: tuple[str, ...], suite: str | None,
    detectors: tuple[str, ...], seeds: int, first_seed: int, scale: str | None, recipe: str,
    both: bool, data: tuple[str, ...], store: str, device: str, precision: str | None,
    compile_: bool, batch_size: int | None, checkpoint_seconds: float, plugins: tuple[str, ...],
    all_scores: bool, dry_run: bool, quiet: bool,
) -> None:  # fmt: skip
    """Train what is missing, measure, score, and print the table of every pair."""
    from oodbench.datasets.loading import find_places
    from oodbench.jobkeys import Bench
    from oodbench.plan import plan_jobs
    from oodbench.progress import Progress
    from oodbench.store import Store

    load_plugins(plugins)
    parts, scale = _choose(pairs, in_dist, oods, suite, detectors, scale, recipe, both)
    overrides = {"training": {"precision": precision}} if precision else None
    jobs = [
        job
        for chosen, requests in parts
        for job in plan_jobs(
            requests, chosen, scale=scale, seeds=range(first_seed, first_seed + seeds),
            overrides=overrides,
        )
    ]  # fmt: skip
    bench = Bench(
        store=Store(store),
        places=find_places(data, store),
        progress=Progress("quiet" if quiet else None),
        device=device,
        compile=compile_,
        batch_size=batch_size,
        checkpoint_seconds=checkpoint_seconds,
    )
    if dry_run:
        _print_missing(bench, jobs)
        return
    from oodbench.executors.local import raise_failures, run_jobs

    outcome = run_jobs(bench, jobs)
    _print_tables(parts, outcome.entries, all_scores=all_scores)
    note_changes(outcome.entries)
    raise_failures(outcome)


def _choose(
    pairs: tuple[str, ...], in_dist: str | None, oods: tuple[str, ...], suite: str | None,
    detectors: tuple[str, ...], scale: str | None, recipe: str, both: bool,
) -> tuple[list[tuple[list[Pair], list[DetectorRequest]]], str]:  # fmt: skip
    """(pairs, detectors) to run, and the scale; the embedded suite where no pair is given."""
    from oodbench.pairs import get_pair, make_pair
    from oodbench.plan import DEFAULT_DETECTORS, DetectorRequest, parse_detector
    from oodbench.recipes import SCALES
    from oodbench.suites import Part, find_suite

    if (in_dist is None) != (not oods):
        raise OodbenchError("--in-dist and --ood go together: name one ID set and its OOD sets")
    if not (pairs or suite) and in_dist is None:
        suite = "embedded"
    chosen = [get_pair(name) for name in pairs]
    chosen += [make_pair(in_dist, ood) for ood in oods if in_dist is not None]
    found = find_suite(suite) if suite else None
    scale = scale or (found.scale if found else "small")
    if scale not in SCALES:
        raise OodbenchError(f"unknown scale {scale!r}; one of {', '.join(SCALES)}")
    own = Part((), detectors or (found.detectors if found else DEFAULT_DETECTORS))
    parts = [(chosen, own)] if chosen else []
    parts += [([get_pair(p) for p in part.pairs], part) for part in (found.parts if found else ())]

    def request(name: str) -> DetectorRequest:
        asked = parse_detector(name)
        if not (recipe and asked.detector.recipe_variant):
            return asked
        return DetectorRequest(asked.name, asked.recipe or recipe, asked.scores)

    out = []
    for listed, part in parts:
        both_ways = [*listed, *(pair.reversed() for pair in listed)] if both else listed
        requests = [request(name) for name in detectors or part.detectors]
        out.append((list(dict.fromkeys(both_ways)), requests))
    return out, scale


def _print_missing(bench: object, jobs: Sequence[object]) -> None:
    from oodbench.missing import missing_steps

    found = [s for job in jobs for s in missing_steps(bench, job)]  # type: ignore[arg-type]
    steps = list({step.key: step for step in reversed(found)}.values())[::-1]
    for step in steps:
        cost = [f"{step.images:,} images"] if step.images else []
        cost += [f"about {step.seconds / 60:.0f} min"] if step.seconds is not None else []
        click.echo(step.text + (f" ({', '.join(cost)})" if cost else ""))
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


def _print_tables(
    parts: Sequence[tuple[Sequence[Pair], Sequence[DetectorRequest]]], entries: Sequence[object],
    *, all_scores: bool,
) -> None:  # fmt: skip
    from oodbench.leaderboards import caption, diagnostics_table, group_runs, make_rows, score_table
    from oodbench.tables.board import shown_scores
    from oodbench.tables.classifiers import classifiers_table

    out = console()
    groups = group_runs(entries)  # type: ignore[arg-type]
    asked: dict[str, DetectorRequest] = {}
    for request in (request for _, requests in parts for request in requests):
        asked[request.name] = request
    for pair in dict.fromkeys(pair for pairs, _ in parts for pair in pairs):
        own = [
            g for g in groups if (g.first["in_dist"], g.first["ood"]) == (pair.in_dist, pair.ood)
        ]
        rows = []
        for group in own:
            request = asked[str(group.first["detector"])]
            rows += make_rows(group, shown_scores(group, request, all_scores))
        if not rows:
            continue
        if pair.reading:
            out.print(pair.reading + "\n", highlight=False)
        seeds = max(own, key=lambda g: len(g.entries))
        out.print(score_table(f"{pair.name} (ID: {pair.in_dist}, OOD: {pair.ood})", rows,
                                  caption(seeds, own)))  # fmt: skip
        out.print()
    for models in (diagnostics_table(groups), classifiers_table(groups)):
        if models is not None:
            out.print(models)
