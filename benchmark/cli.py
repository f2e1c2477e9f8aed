"""The command line: click commands and nothing else; heavy imports happen inside the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from oodbench.cli_figures import figure
from oodbench.cli_report import report
from oodbench.cli_store import note_changes, store_
from oodbench.cli_tables import compare, leaderboard
from oodbench.clitools import console, data_option, print_columns, store_option
from oodbench.errors import OodbenchError, nearest

if TYPE_CHECKING:
    from oodbench.pairs import Pair
    from oodbench.plan import DetectorRequest
    from oodbench.store import Store


class Commands(click.Group):
    """Unknown commands name the nearest valid one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None:
            close = ", ".join(nearest(name, self.list_commands(ctx))[:3])
            raise OodbenchError(f"unknown command {name!r}; nearest: {close} (see oodbench --help)")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="oodbench")
def oodbench() -> None:
    """Out-of-distribution detection with deep generative models, benchmarked.

    `oodbench run` alone trains small models on images that ship with the package and prints their
    table; add --pair fashionmnist-mnist --data FOLDER for the papers' pairs.
    """


# ---------------------------------------------------------------------- run
@oodbench.command()
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
@click.option("--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Load a plug-in.")
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
    from oodbench.plan import plan_jobs
    from oodbench.progress import Progress
    from oodbench.runner import Bench
    from oodbench.store import Store

    _load_plugins(plugins)
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


def _load_plugins(plugins: Sequence[str]) -> None:
    from oodbench.registry import load_plugin

    for plugin in plugins:
        load_plugin(plugin)


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
    from oodbench.runner import missing_steps

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
    models = diagnostics_table(groups)
    if models is not None:
        out.print(models)


# ---------------------------------------------------------------------- list
@oodbench.group("list", cls=Commands)
def list_() -> None:
    """What is registered: pairs, datasets, detectors, suites, recipes."""


@list_.command("pairs")
def list_pairs() -> None:
    """Registered pairs; any ID-OOD of two data sets works as well."""
    from oodbench.pairs import registered_pairs

    print_columns(
        [("PAIR", "ID", "OOD", "TABLES")]
        + [
            (p.name, p.in_dist, p.ood, "embedded" if p.embedded else " ".join(map(str, p.tables)))
            for p in registered_pairs().values()
        ]
    )


@list_.command("datasets")
def list_datasets() -> None:
    """Registered data sets with their shape, splits, variants and licence."""
    from oodbench.datasets.spec import catalogue

    print_columns(
        [("DATA SET", "C×H×W", "SPLITS", "VARIANTS", "LICENCE", "CITE")]
        + [
            (
                s.name,
                "×".join(map(str, s.shape)),
                " ".join(f"{k} {v:,}" for k, v in s.splits.items()),
                " ".join(s.variants),
                s.licence,
                s.cite,
            )
            for s in catalogue().values()
        ]
    )


@list_.command("detectors")
@click.option("--plugin", "plugins", multiple=True, metavar="FILE|MODULE", help="Load a plug-in.")
def list_detectors(plugins: tuple[str, ...]) -> None:
    """Registered detectors, their scores and citation; broken plug-ins are named at the end."""
    from oodbench.detector import DETECTORS

    _load_plugins(plugins)
    broken = DETECTORS.broken()
    rows = [("DETECTOR", "CATEGORY", "SCORES", "COST", "CITE")]
    for name in DETECTORS.names():
        if name not in broken:
            cls = DETECTORS.get(name)
            rows.append(
                (
                    name,
                    cls.category,
                    ", ".join(cls.score_patterns) or "-",
                    cls.cost or "-",
                    cls.cite,
                )
            )
    print_columns(rows)
    for reason in broken.values():
        click.echo(f"broken: {reason}", err=True)


@list_.command("suites")
def list_suites() -> None:
    """Suites: named sets of pairs and detectors."""
    from oodbench.suites import suites

    print_columns(
        [("SUITE", "PAIRS", "TITLE")]
        + [(s.name, " ".join(s.pairs), s.title) for s in suites().values()]
    )


@list_.command("recipes")
def list_recipes() -> None:
    """Recipes with the image shape they are made for, scales and variants."""
    from oodbench.recipes import recipe_files

    print_columns(
        [("RECIPE", "C×H×W", "SCALES", "VARIANTS", "TITLE")]
        + [
            (r.name, "×".join(map(str, r.shape)), " ".join(r.scales), " ".join(r.variants), r.title)
            for r in recipe_files().values()
        ]
    )


# ---------------------------------------------------------------------- data
@oodbench.group("data", cls=Commands)
def data_() -> None:
    """Data sets on this machine: what is found, and fetching what is not."""


@data_.command("status")
@data_option
@store_option
def data_status(data: tuple[str, ...], store: str) -> None:
    """Where each split of each data set was found."""
    from oodbench.datasets.loading import find_places, status

    rows = [("DATA SET", "SPLIT", "STATE", "IMAGES", "WHERE")]
    rows += [(s.name, s.split, s.state, f"{s.expected:,}", s.where) for s in
             status(find_places(data, store))]  # fmt: skip
    print_columns(rows)


@data_.command("fetch")
@click.argument("names", nargs=-1, required=True)
@click.option("--into", type=click.Path(file_okay=False), help="Folder; default: the data cache.")
@store_option
def data_fetch(names: tuple[str, ...], into: str | None, store: str) -> None:
    """Download data sets, verified by hash."""
    from oodbench.datasets.loading import find_places
    from oodbench.datasets.published import fetch_published
    from oodbench.datasets.spec import get_spec

    specs = [get_spec(name) for name in names]
    folder = Path(into) if into else find_places((), store).folders[-1]
    for spec in specs:
        for line in fetch_published(spec, folder):
            click.echo(line)


# ---------------------------------------------------------------------- results
oodbench.add_command(leaderboard)
oodbench.add_command(compare)
oodbench.add_command(figure)
oodbench.add_command(report)


@oodbench.command()
@click.argument("key")
@store_option
def show(key: str, store: str) -> None:
    """The record of a run, fit or measurement, by the first digits of its key."""
    import json

    from oodbench.store import Store

    entry = Store(store).resolve(key)
    click.echo(json.dumps({"path": entry.path, **entry.record}, indent=1, ensure_ascii=False))


@oodbench.command()
@click.argument("a")
@click.argument("b")
@store_option
def why(a: str, b: str, store: str) -> None:
    """Which part of two keys differs, down to the recipe, the data and the seed."""
    from oodbench.runner import expand_parts
    from oodbench.store import Store, explain

    opened: Store = Store(store)
    entries = [opened.resolve(key) for key in (a, b)]
    left, right = (expand_parts(opened, dict(entry.parts)) for entry in entries)
    rows = explain(left, right)
    if entries[0].stage != entries[1].stage:
        rows.insert(0, ("stage", entries[0].stage, entries[1].stage))
    if not rows:
        click.echo("the keys are equal")
        return
    print_columns([("PART", a, b), *((path, str(x), str(y)) for path, x, y in rows)])


oodbench.add_command(store_)


def main() -> None:
    """Entry point: user errors in one line with status 2, interruption with 130 or 143."""
    import logging

    from oodbench.interruption import Interrupted, listening

    logging.basicConfig(format="oodbench: %(message)s", level=logging.WARNING)
    try:
        with listening():
            oodbench.main(standalone_mode=False)
    except Interrupted as stopped:
        where = f" while {stopped.where}" if stopped.where else ""
        click.echo(f"oodbench: interrupted{where}; the same command goes on from here", err=True)
        sys.exit(stopped.status)
    except OodbenchError as error:
        _fail(str(error))
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        _fail(error.format_message() + where)
    except click.ClickException as error:
        _fail(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        click.echo("oodbench: interrupted; the same command goes on from here", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except MemoryError:
        _fail("out of memory; use a smaller --batch-size or --scale")
    except RuntimeError as error:
        if "memory" not in str(error):  # torch says so of the GPU and of the CPU
            raise
        _fail("out of memory; use a smaller --batch-size or --scale")


def _fail(message: str) -> None:
    line = " ".join(message.split()).encode(errors="backslashreplace").decode()
    click.echo(f"oodbench: error: {line}", err=True)
    sys.exit(2)
