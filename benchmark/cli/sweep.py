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
    overrides_of,
    plugin_option,
    precision_option,
    seed_options,
    set_option,
    table_width,
    wide_option,
)
from oodbench.cli.run import print_total
from oodbench.cli.store import note_changes
from oodbench.media import terminal
from oodbench.output_encoding import in_full
from oodbench.store.outputs import write_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oodbench.flow.bench import Bench
    from oodbench.flow.missing_steps import Step
    from oodbench.store.store import Store
    from oodbench.sweeps.points import Sweep
    from oodbench.sweeps.results import Swept

FORMATS = ("table", "csv", "latex", "markdown", "html", "json")
TITLES = {"allocation": "Latent dimension allocation", "recipe": "Settings of a recipe"}


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
@set_option
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
@wide_option
@click.option("--dry-run", is_flag=True, help="Say what is missing; make nothing.")
def allocation(
    models: tuple[str, ...], in_dist: str, oods: tuple[str, ...], budget: int | None,
    layers: int | None, ratios: str | None, seeds: int, first_seed: int, scale: str, recipe: str,
    settings: tuple[str, ...], precision: str | None, format_: str, shape: str, out: str | None,
    figure: str | None, wide: bool, dry_run: bool, **how: Unpack[BenchOptions],
) -> None:  # fmt: skip
    """The sizes of a hierarchy's latents under one budget: AUROC, KL and active units by ratio.

    Ordinary runs, shared through the store with `oodbench run` and resumed by the same command;
    several processes on one store share the work.
    """
    from oodbench.flow.selection import check_scale, data_names, detector_names
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
    pairs, size = swept_pairs(bench.places, in_dist, data_names(oods))
    overrides = overrides_of(settings, precision)
    planned = [
        plan_allocation(
            model, pairs, size, ratios=values, budget=budget, layers=layers, recipe=recipe,
            scale=scale, seeds=range(first_seed, first_seed + seeds), overrides=overrides,
        )
        for model in detector_names(models) or MODELS_SWEPT
    ]  # fmt: skip
    sweeps = list({one.request: one for one in planned}.values())
    if dry_run:
        _print_plan(bench, sweeps)
        return
    from oodbench.sweeps.results import run_sweeps

    found = run_sweeps(bench, sweeps)
    width = table_width(out is not None, wide)
    _finish(found, bench.store, "allocation", format_, shape, out, figure, width)


@sweep.command("recipe")
@click.option("--model", "models", multiple=True, metavar="NAME[@RECIPE]",
              help="A hierarchical VAE; may be repeated.  [the two HVAEs]")  # fmt: skip
@click.option(
    "--in-dist", required=True, metavar="DATA", help="ID set: a name, a file or a folder."
)
@click.option("--ood", "oods", required=True, multiple=True, metavar="DATA",
              help="OOD set; may be repeated.")  # fmt: skip
@click.option("--set", "settings", required=True, multiple=True, metavar="KEY=VALUE,VALUE",
              help="A setting of the recipe and its values; several make a grid.")  # fmt: skip
@partial(seed_options, count=1)
@click.option("--scale", default="small", show_default=True, metavar="paper|small|smoke",
              help="Size of the recipes.")  # fmt: skip
@click.option("--recipe", default="", metavar="NAME", help="Recipe of every model that names none.")
@precision_option
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True,
              help="Of the table.")  # fmt: skip
@click.option("--shape", type=click.Choice(["tidy", "table"]), default="tidy", show_default=True,
              help="CSV: one line per number, or as the table is printed.")  # fmt: skip
@click.option(
    "--out", type=click.Path(dir_okay=False), metavar="FILE", help="Write the table there."
)
@click.option("--figure", type=click.Path(dir_okay=False), metavar="FILE",
              help="A .pdf, .svg or .png file.  [recipe-ID.pdf]")  # fmt: skip
@bench_options
@plugin_option
@wide_option
@click.option("--dry-run", is_flag=True, help="Say what is missing; make nothing.")
def recipe_grid(
    models: tuple[str, ...], in_dist: str, oods: tuple[str, ...], settings: tuple[str, ...],
    seeds: int, first_seed: int, scale: str, recipe: str, precision: str | None, format_: str,
    shape: str, out: str | None, figure: str | None, wide: bool, dry_run: bool,
    **how: Unpack[BenchOptions],
) -> None:  # fmt: skip
    """Every combination of the values of some settings, and the one that ID data choose.

    Ordinary runs, as those of `oodbench run --set`. The choice is the lowest bits/dim of ID images
    that no fit has seen; the best AUROC beside it is an oracle's, and marked as such.
    """
    from oodbench.declare.overrides import parse_grid
    from oodbench.flow.selection import check_scale, data_names, detector_names
    from oodbench.sweeps.allocation import MODELS_SWEPT, swept_pairs
    from oodbench.sweeps.grid import plan_grid

    check_scale(scale)
    if figure is not None:
        from oodbench.figures.style import file_format

        file_format(figure)
    grid, bench = parse_grid(settings), make_bench(how)
    pairs, size = swept_pairs(bench.places, in_dist, data_names(oods))
    planned = [
        plan_grid(
            model, pairs, size, grid, recipe=recipe, scale=scale,
            seeds=range(first_seed, first_seed + seeds), overrides=overrides_of((), precision),
        )
        for model in detector_names(models) or MODELS_SWEPT
    ]  # fmt: skip
    sweeps = list({one.request: one for one in planned}.values())
    if dry_run:
        _print_plan(bench, sweeps)
        return
    from oodbench.sweeps.results import run_sweeps

    width = table_width(out is not None, wide)
    found = run_sweeps(bench, sweeps)
    _finish(found, bench.store, "recipe", format_, shape, out, figure, width)


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
    figure: str | None, width: int | None,
) -> None:  # fmt: skip
    """Write the figure, print or write the table, and say where it is."""
    from oodbench.figures.style import write_figure
    from oodbench.figures.sweeps import sweep_figure
    from oodbench.tables.sweeps import sweep_text

    styled = out is None and sys.stdout.isatty()
    pair = found[0].sweep.pairs[0]
    path = figure or f"{kind}-{pair.name.removesuffix('-' + pair.ood)}.pdf"
    write_figure(sweep_figure(found), path)
    with in_full(out is not None):
        text = sweep_text(found, store, kind, TITLES[kind], format_, shape, styled=styled,
                          width=width)  # fmt: skip
    if out is None:
        click.echo(text, nl=False)
    else:
        write_output(out, text)
    click.echo(
        terminal(f"{path}: {TITLES[kind].lower()} against {found[0].sweep.symbol}"), err=True
    )
    settings = [setting for one in found for setting in one.settings]
    groups = [group for setting in settings for group in setting.groups.values()]
    note_changes({e.digest: e for group in groups for e in group.entries}.values())
    note_untrusted(store)
