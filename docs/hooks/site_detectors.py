"""A page per detector from its docstrings, its metadata, the papers' numbers and ours."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

from site_text import cell, cited, doc_of, escaped, markdown, table

from oodbench.datasets.pairs import get_pair, registered_pairs
from oodbench.datasets.spec import get_spec
from oodbench.declare.layout_files import find_layout, layout_names
from oodbench.declare.layouts import Layout, Select
from oodbench.declare.recipes import recipe_files, resolve
from oodbench.detect.detector import CATEGORIES, DETECTORS, Detector, is_deterministic
from oodbench.errors import OodbenchError
from oodbench.flow.default_recipe import default_recipe
from oodbench.tables.sources.numbers import Number
from oodbench.tables.sources.reported_tables import Published, base_name, ood_name

PARADOX, SCALE = "china-flower", "smoke"
PUBLISHED = Path(__file__).parents[2] / "results" / "published"
MEANING = {
    "unsupervised": "ID training images alone",
    "ensemble": "ID training images alone, several models",
    "prior": "ID training images and knowledge from outside: a compressor, or a second OOD set",
    "labels": "ID training images and their class labels",
}
HEADS = {"auroc": "AUROC ↑", "auprc": "AUPRC ↑", "fpr80": "FPR80 ↓"}
COST = """Cost is counted per image: `e` an encoder pass, `g` a decoder pass, `f` a forward pass of
the whole model, `b` a backward pass, `L` layers, `S` importance samples."""
INDEX = f"""# Detectors

Each page is made from the detector's own source when this site is built. In every score **higher =
more OOD**; no sign is flipped because it scores better. {COST}

"""


def detector_pages() -> dict[str, str]:
    """The list and every page, by path."""
    classes = [DETECTORS.get(name) for name in DETECTORS.names()]
    pages = {f"detectors/{cls.name}.md": _page(cls) for cls in classes}
    parts = [INDEX]
    for category in CATEGORIES:
        members = [cls for cls in classes if cls.category == category]
        if members:
            parts.append(f"## {category.capitalize()}\n\nSees {MEANING[category]}.\n")
            rows = [
                (f"[{cls.title}]({cls.name}.md)", cell(cls.name), cell(cls.cost), _cite(cls))
                for cls in members
            ]
            parts.append(table(["detector", "name", "cost", "source"], rows))
    return {"detectors/index.md": "\n".join(parts), **pages}


def _page(cls: type[Detector]) -> str:
    module = sys.modules[cls.__module__]
    parts = [f"# {escaped(cls.title)}\n", table(["", ""], _facts(cls, module))]
    parts += ["## What it computes\n", markdown(doc_of(module))]
    for base in reversed(cls.__mro__):
        own = vars(base).get("__doc__")
        if own and issubclass(base, Detector) and base is not Detector:
            home = sys.modules[base.__module__]
            if home is not module:
                parts += [f"### From `{base.__module__}`\n", markdown(doc_of(home))]
    parts += ["## This detector\n", markdown(doc_of(cls)), _command(cls)]
    parts += [*_papers_numbers(cls), *_our_numbers(cls)]
    return "\n".join(dict.fromkeys(parts))


def _facts(cls: type[Detector], module: ModuleType) -> Iterator[tuple[str, str]]:
    yield "Name", cell(cls.name)
    yield "Source", _cite(cls)
    yield "Category", f"{cls.category}: sees {MEANING[cls.category]}"
    yield "Direction", "higher = more OOD, every score"
    yield "Scores", ", ".join(cell(score) for score in cls.score_patterns) or "one, without a name"
    yield "Cost per image", f"{cell(cls.cost)} ([notation](index.md))"
    if cls.recipe_variant:
        members = f" × {cls.members} seeds" if cls.members > 1 else ""
        fits = [cell(cls.recipe_variant) + members, *(cell(name) for name in cls.companions)]
        yield "Trains", ", ".join(fits)
        made = [r.name for r in recipe_files().values() if cls.recipe_variant in r.variants]
        names = ", ".join(f"[{name}](../recipes.md#{name.lower()})" for name in made)
        yield "Recipes", names
    else:
        yield "Trains", "nothing"
    yield "Seeds", "every seed gives the same" if is_deterministic(cls) else "matter"
    yield "Revision", str(cls.revision)
    yield "Code", cell(f"{module.__name__.removeprefix('oodbench.').replace('.', '/')}.py")


def _cite(cls: type[Detector]) -> str:
    return cited(escaped(cls.cite))


def _command(cls: type[Detector]) -> str:
    scale = " --scale smoke" if cls.recipe_variant else ""
    command = f"oodbench run --pair {embedded_pair(cls)} --detector {cls.name}{scale}"
    return f"```console\n$ {command}\n```\n"


def embedded_pair(cls: type[Detector]) -> str:
    """The pair of the paradox where a recipe fits its images, else another embedded one."""
    pairs = [pair for pair in registered_pairs().values() if pair.embedded]
    pairs.sort(key=lambda pair: pair.name != PARADOX)
    for pair in pairs:
        try:
            for variant in filter(None, (cls.recipe_variant, *cls.companions)):
                shape = get_spec(pair.in_dist).shape
                file = default_recipe(pair.in_dist, shape, variant, SCALE)
                if file.name not in recipe_files():  # derived for the shape, not made for it
                    raise OodbenchError(f"no recipe is made for {pair.in_dist}")
                resolve(file, SCALE, variant)
        except OodbenchError:
            continue
        return pair.name
    raise OodbenchError(f"{cls.name} runs on no embedded pair; give it a recipe for one")


# ---------------------------------------------------------------------- numbers
@cache
def _layouts() -> tuple[Layout, ...]:
    return tuple(find_layout(name) for name in layout_names())


def _papers_numbers(cls: type[Detector]) -> Iterator[str]:
    """What the papers print of this detector's scores, once each, in percent."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for layout in _layouts():
        queries = [q for q in layout.queries() if _is_metric_of(q, cls)]
        source = Published(layout) if queries else None
        for query in queries:
            number = source.number(query) if source is not None else None
            if isinstance(number, Number):
                row = (*_place(query), layout.source)
                found.setdefault(row, {})[str(query["metric"])] = number.printed
    if not found:
        return
    yield "## Published numbers\n"
    yield (
        "As the papers print them, in percent; of the model and recipe named, at the scale `paper`."
        " Beside runs of yours: `oodbench leaderboard --layout NAME --compare paper`.\n"
    )
    rows = [(*row[:4], *(found[row].get(metric, "") for metric in HEADS), row[4]) for row in found]
    yield table(["ID", "OOD", "recipe", "score", *HEADS.values(), "source"], rows)


def _is_metric_of(query: Select, cls: type[Detector]) -> bool:
    return query.get("detector") == cls.name and query.get("metric") in HEADS


def _place(query: Select) -> tuple[str, str, str, str]:
    pair = get_pair(str(query["pair"]))
    score = cell(str(query.get("score", "")))
    return base_name(pair.in_dist), ood_name(query, pair), str(query.get("recipe", "")), score


@cache
def _published_rows() -> tuple[tuple[str, Mapping[str, str]], ...]:
    """(folder, row) of every leaderboard; papers' layouts and sweeps have other columns."""
    rows = []
    for path in sorted(PUBLISHED.rglob("*.csv")):
        with path.open(encoding="utf-8") as file:
            found = csv.DictReader(file)
            if {"pair", "detector", "recipe", "metric"} <= set(found.fieldnames or ()):
                rows += [(path.parent.name, row) for row in found]
    return tuple(rows)


def _our_numbers(cls: type[Detector]) -> Iterable[str]:
    """What this project measured, from the tables that it publishes; of two, the first by name."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for scale, row in _published_rows():
        if row["metric"] in HEADS and _titled(row["detector"]) == cls.title:
            recipe = "-".join(filter(None, (row["recipe"], row["recipe"] and row.get("scale", ""))))
            key = (row["pair"], recipe or scale, cell(row["score"]), row["seeds"])
            found.setdefault(key, {}).setdefault(row["metric"], _number(row))
    if not found:
        return []
    rows = [(*key[:3], *(found[key].get(metric, "") for metric in HEADS)) for key in found]
    return [
        "## Our numbers\n",
        "From `results/published`: percent, 95 % intervals over test images (one seed) or mean ±"
        " standard deviation (several).\n",
        table(["pair", "recipe", "score", *HEADS.values()], rows, right=len(HEADS)),
    ]


def _titled(text: str) -> str:
    """``Informative HVAE(3)`` without its depth."""
    head, bracket, depth = text.rpartition("(")
    return head if bracket and depth.rstrip(")").isdigit() else text


def _number(row: Mapping[str, str]) -> str:
    if row["sd"]:
        return f"{float(row['value']):.1f} ± {float(row['sd']):.1f}"
    bounds = f"{float(row['low']):.1f}, {float(row['high']):.1f}"
    return f"{float(row['value']):.1f} [{bounds}]"
