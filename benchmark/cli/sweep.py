"""The commands `oodbench sweep KIND`: a setting of a recipe varied, as a table and a figure."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Unpack

import click

from oodbench.cli.options import (
    BenchOptions,
    Commands,
    bench_options,
    make_bench,
    note_untrusted,
    plugin_option,
    precision_option,
    seed_options,
)
from oodbench.cli.run import print_total
from oodbench.cli.store import note_changes
from oodbench.media import terminal
from oodbench.store.outputs import write_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oodbench.flow.bench import Bench
    from oodbench.flow.missing_steps import Step
    from oodbench.store.store import Store
    from oodbench.sweeps.points import Sweep
    from oodbench.sweeps.results import Swept

FORMATS = ("table", "csv", "latex", "markdown", "html", "json")
TITLES = {"allocation": "Latent dimension allocation"}


@click.group(cls=Commands)
def sweep() -> None:
    """Vary one setting of a recipe: every value against the OOD sets, and what ID data choose."""


@sweep.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[@RECIPE]",
    help="A hierarchical VAE; may be repeated.  [vanilla-hvae, informative-hvae]",
)
@click.option(
    "--in-dist", required=True, metavar="DATA", help="ID set: a name, an .npz file or a folder."
)
@click.option(
    "--ood", "oods", required=True, multiple=True, metavar="DATA", help="OOD set; may be repeated."
)
@click.option(
    "--budget",
    type=click.IntRange(1),
    metavar="N",
    help="Latent dimensions of all layers together.  [the recipe's own]",
)
@click.option(
    "--layers",
    type=click.IntRange(1),
    metavar="L",
    help="Layers of the recipe that is looked for.  [the recipe's own]",
)
@click.option(
    "--ratios",
    metavar="R,R,…",
    help="Size of a layer by that of the one below; 0.5, the default allocation, is always"
    " among them.  [0.25,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1,1.25]",
)
@partial(seed_options, count=3)
@click.option(
    "--scale",
    default="small",
    show_default=True,
    metavar="paper|small|smoke",
    help="Size of the recipes.",
)
@click.option(
    "--recipe",
    default="",
    metavar="NAME",
    help="Recipe of every model that names none.  [one with latents of one kind]",
)
@precision_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="Of the table.",
)
@click.option(
    "--shape",
    type=click.Choice(["tidy", "table"]),
    default="tidy",
    show_default=True,
    help="CSV: one line per number, or as the table is printed.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False), metavar="FILE", help="Write the table there."
)
@click.option(
    "--figure",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="A .pdf, .svg or .png file.  [allocation-ID.pdf]",
)
@bench_options
@plugin_option
@click.option("--dry-run", is_flag=True, help="Say what is missing; make nothing.")
def allocation(
    models: tuple[str, ...], in_dist: str, oods: tuple[str, ...], budget: int | None,
    layers: int | None, ratios: str | None, seeds: int, first_seed: int, scale: str, recipe: str,
    precision: str | None, format_: str, shape: str, out: str | None, figure: str | None,
    dry_run: bool, **how: Unpack[BenchOptions],
) -> None:  # fmt: skip
    """The sizes of a hierarchy's latents under one budget: AUROC, KL and active units by ratio.

    Ordinary runs, shared through the store with `oodbench run` and resumed by the same command;
    several processes on one store share the work.
    """
    from oodbench.flow.selection import check_scale
    from oodbench.sweeps.allocation import (
        MODELS_SWEPT,
        RATIOS,
        parse_ratios,
        plan_allocation,
        swept_pairs,
    )

    check_scale(scale)
    if figure is not None:
        from oodbench.figures.style import file_format

        file_format(figure)
    values = parse_ratios(ratios) if ratios is not None else RATIOS
    bench = make_bench(how)
    pairs, size = swept_pairs(bench.places, in_dist, oods)
    overrides = {"training": {"precision": precision}} if precision else {}
    planned = [
        plan_allocation(
            model, pairs, size, ratios=values, budget=budget, layers=layers, recipe=recipe,
            scale=scale, seeds=range(first_seed, first_seed + seeds), overrides=overrides,
        )
        for model in models or MODELS_SWEPT
    ]  # fmt: skip
    sweeps = list({one.request: one for one in planned}.values())
    if dry_run:
        _print_plan(bench, sweeps)
        return
    from oodbench.sweeps.results import run_sweeps

    found = run_sweeps(bench, sweeps)
    _finish(found, bench.store, "allocation", format_, shape, out, figure)


def _print_plan(bench: Bench, sweeps: Sequence[Sweep]) -> None:
    from oodbench.flow.missing_steps import distinct, missing_held_out, missing_steps
    from oodbench.sweeps.points import all_jobs

    for one in sweeps:
        request, points = one.request, one.points
        name = terminal(f"{request.name}@{request.recipe}")
        click.echo(
            f"{name} at {len(points)} values of {one.symbol},"
            f" {len(one.distinct())} configurations, {len(one.seeds)} seeds:"
        )
        for point in points:
            click.echo(terminal(f"  {one.symbol} = {point.short}: {point.label}"))
    steps = [
        step for job in all_jobs(sweeps)
        for step in (*missing_steps(bench, job), *missing_held_out(bench, job))
    ]  # fmt: skip
    missing = distinct(steps)
    for text, count, images in _by_kind(missing):
        click.echo(f"{terminal(text)}: {count}" + (f" ({images:,} images)" if images else ""))
    print_total(missing)


def _by_kind(steps: Sequence[Step]) -> list[tuple[str, int, int]]:
    """(what is made, how often, images in all): fits, measurements by set, rankings."""
    found: dict[str, list[int]] = {}
    for step in steps:
        kind = step.text.partition(" with ")[0]
        if not kind.startswith("measure "):
            kind = kind.partition(" ")[0]
        found.setdefault(kind, []).append(step.images)
    return [(kind, len(images), sum(images)) for kind, images in found.items()]


def _finish(
    found: Sequence[Swept], store: Store, kind: str, format_: str, shape: str, out: str | None,
    figure: str | None,
) -> None:  # fmt: skip
    """Print or write the table, write the figure, and say where it is."""
    from oodbench.figures.style import write_figure
    from oodbench.figures.sweeps import sweep_figure
    from oodbench.tables.sweeps import sweep_text

    styled = out is None and sys.stdout.isatty()
    text = sweep_text(found, store, kind, TITLES[kind], format_, shape, styled=styled)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_output(out, text)
    pair = found[0].sweep.pairs[0]
    path = figure or f"{kind}-{pair.name.removesuffix('-' + pair.ood)}.pdf"
    write_figure(sweep_figure(found), path)
    click.echo(
        terminal(f"{path}: {TITLES[kind].lower()} against {found[0].sweep.symbol}"), err=True
    )
    settings = [setting for one in found for setting in one.settings]
    groups = [group for setting in settings for group in setting.groups.values()]
    note_changes({e.digest: e for group in groups for e in group.entries}.values())
    note_untrusted(store)
