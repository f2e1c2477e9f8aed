"""`oodbench list` and `oodbench data`: what is registered and what is on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from oodbench.cli.options import (
    Commands,
    broken_plugins,
    data_option,
    note_problems,
    plugin_option,
    print_columns,
    store_option,
)
from oodbench.errors import PluginError
from oodbench.media import terminal

#: A list is printed whole, whatever plug-in is broken; that is said below it, with status 2.
listing = partial(plugin_option, lenient=True)


def _finish(problems: Mapping[str, str]) -> None:
    note_problems(problems)
    if broken := broken_plugins():
        raise PluginError("; ".join(broken.values()))


@click.group("list", cls=Commands)
def list_() -> None:
    """What is registered: pairs, datasets, detectors, suites, recipes."""


@list_.command("pairs")
@listing
def list_pairs() -> None:
    """Registered pairs; any ID-OOD of two data sets works as well."""
    from oodbench.datasets.pairs import pair_declarations, registered_pairs

    print_columns(
        [("PAIR", "ID", "OOD", "TABLES")]
        + [
            (p.name, p.in_dist, p.ood, "embedded" if p.embedded else " ".join(map(str, p.tables)))
            for p in registered_pairs().values()
        ]
    )
    _finish(pair_declarations().problems)


@list_.command("datasets")
@listing
def list_datasets() -> None:
    """Registered data sets with their shape, splits, variants and licence; generated ones last."""
    from oodbench.datasets.naming import GENERATED
    from oodbench.datasets.spec import catalogue, dataset_declarations

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
        + [(name, "the ID set's", "drawn", "", "", what) for name, what in GENERATED.items()]
    )
    _finish(dataset_declarations().problems)


@list_.command("detectors")
@listing
def list_detectors() -> None:
    """Registered detectors, their scores and citation; broken plug-ins are named at the end."""
    from oodbench.detect.detector import DETECTORS

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
    families = [f"{family}.CLASS[,KEY=VALUE…]" for family in DETECTORS.families()]
    rows += [(family, "unsupervised", "-", "0", "by class") for family in families]
    print_columns(rows)
    _finish(broken)


@list_.command("suites")
@listing
def list_suites() -> None:
    """Suites: named sets of pairs and detectors."""
    from oodbench.flow.suites import suite_declarations, suites

    print_columns(
        [("SUITE", "PAIRS", "TITLE")]
        + [(s.name, " ".join(s.pairs), s.title) for s in suites().values()]
    )
    _finish(suite_declarations().problems)


@list_.command("recipes")
@click.option(
    "--for", "data_set", metavar="DATA", help="What every detector would take on this ID set."
)
@click.option("--scale", default="small", show_default=True, metavar="paper|small|smoke",
              help="Of those recipes.")  # fmt: skip
@listing
@data_option
@store_option
def list_recipes(data_set: str | None, scale: str, data: tuple[str, ...], store: str) -> None:
    """Recipes with the image shape they are made for, scales and variants."""
    from oodbench.declare.recipes import recipe_declarations, recipe_files

    if data_set is not None:
        print_columns(_recipes_for(data_set, scale, data, store))
        return
    print_columns(
        [("RECIPE", "C×H×W", "SCALES", "VARIANTS", "TITLE")]
        + [
            (r.name, "×".join(map(str, r.shape)), " ".join(r.scales), " ".join(r.variants), r.title)
            for r in recipe_files().values()
        ]
    )
    _finish(recipe_declarations().problems)


def _recipes_for(
    data_set: str, scale: str, data: tuple[str, ...], store: str
) -> list[tuple[str, ...]]:
    """The recipe of every detector on a data set, and what makes it another than it is made for."""
    from oodbench.datasets.loading import find_places, load
    from oodbench.datasets.spec import parse_name
    from oodbench.declare.recipes import RecipeFile
    from oodbench.detect.detector import DETECTORS
    from oodbench.errors import ConfigError
    from oodbench.flow.default_recipe import default_recipe
    from oodbench.flow.selection import check_scale

    check_scale(scale)
    images = load(parse_name(data_set), "test", find_places(data, store), divide=True)
    found: dict[str, tuple[RecipeFile | None, str, list[str]]] = {}
    broken = DETECTORS.broken()
    for name in DETECTORS.names():
        variant = "" if name in broken else DETECTORS.get(name).recipe_variant
        if not variant:
            continue
        try:
            taken = default_recipe(data_set, images.shape, variant, scale)
            found.setdefault(taken.name, (taken, "", []))[2].append(name)
        except ConfigError as error:
            found.setdefault(str(error), (None, str(error), []))[2].append(name)
    size = "×".join(map(str, images.shape))
    rows: list[tuple[str, ...]] = [
        ("RECIPE", "MADE FOR", f"FOR {images.name} ({size})", "DETECTORS")
    ]
    for label, (file, problem, names) in found.items():
        if file is None:
            rows.append(("-", "", problem, " ".join(names)))
            continue
        made_for = "×".join(map(str, file.made_for or file.shape))
        change = file.note.partition(". ")[0] if file.made_for else "as it is"
        rows.append((label, made_for, change, " ".join(names)))
    return rows


@click.group("data", cls=Commands)
def data_() -> None:
    """Data sets on this machine: what is found, and fetching what is not."""


@data_.command("status")
@plugin_option
@data_option
@store_option
def data_status(data: tuple[str, ...], store: str) -> None:
    """Where each split of each data set was found, and how many images its files hold."""
    from oodbench.datasets.dataset_status import status
    from oodbench.datasets.loading import find_places

    rows = [("DATA SET", "SPLIT", "STATE", "IMAGES", "WHERE")]
    rows += [(s.name, s.split, s.state, s.count, s.where) for s in
             status(find_places(data, store))]  # fmt: skip
    print_columns(rows)


@data_.command("info")
@click.argument("name")
@plugin_option
@store_option
def data_info(name: str, store: str) -> None:
    """Source, licence, files with their hashes, and where they go, to get a data set by hand."""
    from oodbench.datasets.loading import find_places
    from oodbench.datasets.sources.by_hand import described
    from oodbench.datasets.spec import get_spec

    folder = find_places((), store).folders[-1]
    for head, lines in described(get_spec(name), str(folder)):
        click.echo(terminal(head))
        for line in lines:
            click.echo(f"  {terminal(line)}")


@data_.command("fetch")
@click.argument("names", nargs=-1, required=True)
@click.option("--into", type=click.Path(file_okay=False), help="Folder; default: the data cache.")
@store_option
def data_fetch(names: tuple[str, ...], into: str | None, store: str) -> None:
    """Download data sets, verified by hash; `frost`: what the step of that name takes."""
    from oodbench.datasets.loading import find_places
    from oodbench.datasets.sources.fetching import fetch_published
    from oodbench.datasets.sources.frost import fetch_photographs
    from oodbench.datasets.spec import get_spec

    specs = [get_spec(name) for name in names if name != "frost"]
    folder = Path(into) if into else find_places((), store).folders[-1]
    if "frost" in names:
        for line in fetch_photographs(folder):
            click.echo(line)
    for spec in specs:
        for line in fetch_published(spec, folder):
            click.echo(line)
