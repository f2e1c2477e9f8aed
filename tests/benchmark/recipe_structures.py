"""One recipe for every way in which the registered models are put together.

Two recipes of equal structure differ in numbers alone (widths, depths, weights of terms): they run
the very same lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from oodbench.canonical_json import JSON
from oodbench.declare.recipes import Recipe, recipe_files, resolve


class Structure(NamedTuple):
    """A recipe that stands for its structure, and the names of all that share it."""

    recipe: Recipe
    shape: tuple[int, int, int]
    names: tuple[str, ...]


def _kinds(value: JSON) -> JSON:
    """A configuration with "n" for its numbers; of list items that are then equal, one."""
    if isinstance(value, Mapping):
        return {key: _kinds(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        found: list[JSON] = []
        for item in map(_kinds, value):
            if item not in found:
                found.append(item)
        return found
    return value if isinstance(value, bool | str) or value is None else "n"


def structures(scale: str = "smoke") -> list[Structure]:
    """Of every recipe and variant, one of each structure; images of 8×8."""
    found: dict[str, Structure] = {}
    for name, file in sorted(recipe_files().items()):
        for variant in file.variants:
            recipe = resolve(file, scale, variant)
            training = recipe.training
            kinds: JSON = [
                recipe.config.name, _kinds(recipe.config.model_dump(mode="json")), file.shape[0],
                training.optimiser, training.precision,
                *(value is None for value in (training.ema, training.clip, training.mutation,
                                              training.augment, training.kernel_decay)),
                None if training.outliers is None else training.outliers.kind,
            ]  # fmt: skip
            key, label = json.dumps(kinds, sort_keys=True), f"{name}-{variant}"
            first = found.get(key, Structure(recipe, (file.shape[0], 8, 8), ()))
            found[key] = first._replace(names=(*first.names, label))
    return list(found.values())
