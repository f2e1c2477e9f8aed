"""The page of models and recipes: every recipe at every scale, from the files that run."""

from __future__ import annotations

from collections import Counter
from typing import cast

from site_text import cell, doc_of, escaped, prose, table

from oodbench.declare.recipes import (
    MODELS,
    Recipe,
    RecipeFile,
    recipe_files,
    resolve,
    variant_note,
)

SCALES = {
    "paper": "as published; wants a GPU",
    "small": "minutes on two CPU cores",
    "smoke": "seconds; shows that things run, its numbers mean nothing",
}
INTRODUCTION = """# Models and recipes

A *model* is a network with a training loss. A *recipe* is a YAML file that states its architecture
and training for one shape of images, once per *scale*; its *variants* differ in what detectors need
(objective, likelihood, background model). The resolved recipe is part of the key of every fit.
`oodbench list recipes` prints this list, `--recipe NAME` or `detector@NAME` chooses one, `--scale`
its size; a path to a YAML file of one's own works as well.
"""
CHOOSING = """
Without `--recipe` the one is taken that names the ID set; else the first by name that is made for
the images' shape and names no set. The small recipes were chosen by in-distribution figures alone.

Epochs count passes over as many images as the column "images" says (all of the training set where
it is empty).
"""


def recipes_page() -> str:
    """Models with their first lines, recipes × scales, and where each recipe comes from."""
    files = recipe_files()
    parts = [INTRODUCTION, "## Scales\n", table(["scale", ""], SCALES.items()), "## Models\n"]
    used = Counter(recipe.model for recipe in files.values())
    models = []
    for name in MODELS.names():
        first = doc_of(MODELS.get(name)).splitlines()[0]
        models.append((cell(name), prose(first), str(used[name])))
    parts += [table(["model", "", "recipes"], models, right=1), "## Recipes\n", CHOOSING]
    rows = [row for recipe in files.values() for row in _rows(recipe)]
    heads = ["recipe", "C×H×W", "scale", "epochs", "images", "batch", "optimiser", "rate"]
    parts += [table(heads, rows, right=2), "## Sources\n"]
    parts += [_source(recipe) for recipe in files.values()]
    return "\n".join(parts)


def _rows(recipe: RecipeFile) -> list[list[str]]:
    rows = []
    for scale in SCALES:
        if scale not in recipe.scales:
            continue
        overlays = cast("dict[str, object]", recipe.scales[scale].get("variants", {"": {}}))
        found = resolve(recipe, scale, next(iter(overlays)))
        rows.append([cell(recipe.name), "×".join(map(str, recipe.shape)), scale, *_budget(found)])
    return rows


def _budget(recipe: Recipe) -> list[str]:
    training = recipe.training
    images = training.epoch_images or training.max_images
    return [
        str(training.epochs), f"{images:,}" if images else "", str(training.batch_size),
        training.optimiser, f"{training.lr:g}",
    ]  # fmt: skip


def _source(recipe: RecipeFile) -> str:
    made = f" ID sets: {', '.join(recipe.in_dist)}." if recipe.in_dist else ""
    variants = ", ".join(cell(name) for name in recipe.variants if name)
    lines = [
        f"### {recipe.name}\n",
        f"{escaped(recipe.title)}. Model {cell(recipe.model)}.{made}"
        + (f" Variants: {variants}." if variants else ""),
        "",
        prose(" ".join(recipe.source.split())),
        "",
    ]
    notes = [
        variant_note(recipe, scale, name) for scale in recipe.scales for name in recipe.variants
    ]
    lines += [f"Under its tables: {prose(note)}\n" for note in dict.fromkeys(notes) if note]
    return "\n".join(lines)
