"""The sweep of latent dimension allocation: the sizes of a hierarchy's latents under one budget.

Williamson, Ji, Dwyer 2025, arXiv 2506.10089.  Stated there (abstract and summary): under a fixed
budget a best ratio r between the sizes of adjacent layers exists, between information loss and
attenuation.  Ours: geometric sizes d_l ∝ r^(l−1), l = 1 at the image, with the rounding of
`oodbench.models.hierarchical.allocation`; the grid; r = ½ as the default, which gives the [16, 8,
4] of Li et al. 2022; the choice of r on ID data (`oodbench.sweeps.results`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import DataPlaces, check_compatible, load
from oodbench.datasets.pairs import Pair, make_pair
from oodbench.declare.declarations import built_in
from oodbench.declare.derived_recipes import nearest
from oodbench.declare.recipes import (
    Recipe,
    RecipeFile,
    derive,
    find_recipe,
    recipe_files,
    resolve,
)
from oodbench.detect.detector import DETECTORS, Detector
from oodbench.errors import ConfigError, OodbenchError
from oodbench.flow.plan import DetectorRequest, parse_detector
from oodbench.sweeps.points import Point, Sweep

MODELS_SWEPT = ("vanilla-hvae", "informative-hvae")
RATIOS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25)
DEFAULT = 0.5
LOWEST, HIGHEST = 0.01, 100.0


def parse_ratios(text: str) -> tuple[float, ...]:
    """``0.25,0.5,1``, sorted, each once, with `DEFAULT` among them.

    ConfigError on what is no number, or none from 0.01 to 100.
    """
    found = {DEFAULT}
    for part in text.split(","):
        try:
            ratio = float(part)
        except ValueError as error:
            raise ConfigError(
                f"--ratios: {part.strip()!r} is no number; write 0.25,0.5,1"
            ) from error
        if not LOWEST <= ratio <= HIGHEST:
            raise ConfigError(
                f"--ratios: {part.strip()} is no ratio of sizes; give numbers above 0, from"
                f" {LOWEST:g} to {HIGHEST:g}"
            )
        found.add(ratio)
    return tuple(sorted(found))


def swept_pairs(
    places: DataPlaces, in_dist: str, oods: Sequence[str]
) -> tuple[list[Pair], tuple[int, int, int]]:
    """The pairs of the ID set, and the shape (C, H, W) of its images.

    DataError where a set is missing or does not fit, before anything is trained.
    """
    pairs = list(dict.fromkeys(make_pair(in_dist, ood) for ood in oods))
    test = load(pairs[0].in_dist, "test", places, divide=True)
    for pair in pairs:
        ood = load(
            pair.ood, "test", places, like=test.shape, count=len(test), beside=pairs[0].in_dist
        )
        check_compatible(test, ood)
    return pairs, test.shape


def plan_allocation(
    model: str, pairs: Sequence[Pair], shape: tuple[int, int, int], *,
    ratios: Sequence[float], budget: int | None, layers: int | None, recipe: str, scale: str,
    seeds: Sequence[int], overrides: Mapping[str, JSON],
) -> Sweep:  # fmt: skip
    """The sweep of one model, ``NAME[@RECIPE]``, on images of `shape` (C, H, W).

    `budget` and `layers`: by default the recipe's own; `recipe`: one for a model that names none.
    Raises UnknownNameError on an unknown model, recipe or scale, ConfigError on a model without
    latent layers, a recipe of another depth, and a budget of less than a unit per layer.
    """
    request = parse_detector(model)
    check_model(request)
    name = request.recipe or recipe
    variant = request.detector.recipe_variant
    file = find_recipe(name) if name else uniform_recipe(shape, variant, scale, layers, pairs)
    own = latents(resolve(file, scale, variant, overrides))
    depth = len(own)
    if layers not in (None, depth):
        raise ConfigError(
            f"recipe {file.name} has {depth} layers at scale {scale}, not {layers}; leave out"
            " --layers, or name a recipe of that depth with --recipe"
        )
    if depth < 2:
        raise ConfigError(f"recipe {file.name} has one layer; a ratio needs two or more")
    total = budget if budget is not None else sum(latent.dim for latent in own)
    if total < depth:
        raise ConfigError(
            f"a budget of {total} is less than one unit for each of {depth} layers; give --budget"
            f" {depth} or more"
        )
    request = DetectorRequest(request.name, file.name)
    points = tuple(_point(request, file, scale, total, ratio, depth, overrides) for ratio in ratios)
    return Sweep(
        request, tuple(pairs), points, DEFAULT, scale, tuple(seeds), "r", "Latents",
        tuple(_notes(own, file, total)),
    )  # fmt: skip


def _point(
    request: DetectorRequest, file: RecipeFile, scale: str, budget: int, ratio: float,
    layers: int, overrides: Mapping[str, JSON],
) -> Point:  # fmt: skip
    model = cast("Mapping[str, JSON]", overrides.get("model", {}))
    dims: JSON = {"budget": budget, "ratio": ratio, "layers": layers}
    whole = {**overrides, "model": {**model, "dims": dims}}
    recipe = resolve(file, scale, request.detector.recipe_variant, whole)
    sizes = [latent.dim for latent in latents(recipe)]
    return Point(ratio, str(sizes), whole)


@dataclass(frozen=True)
class Latent:
    """The latent of a layer: `dim` channels of a feature map (conv) or units (dense)."""

    kind: str
    dim: int


def latents(recipe: Recipe) -> list[Latent]:
    """From the image upwards; ConfigError where the recipe's model takes no `dims`."""
    if not hasattr(recipe.config, "dims"):
        raise ConfigError(
            f"recipe {recipe.name} is of the model {recipe.config.name!r}, whose latents have no"
            " dims to allocate"
        )
    layers = recipe.config.model_dump(mode="json").get("layers", [])
    held = [cast("Mapping[str, JSON]", layer)["latent"] for layer in cast("list[JSON]", layers)]
    found = [cast("Mapping[str, JSON]", latent) for latent in held]
    return [Latent(str(latent["kind"]), int(str(latent["dim"]))) for latent in found]


def check_model(request: DetectorRequest) -> None:
    """ConfigError where a detector does not score the partial bounds of a hierarchy."""
    if request.scores:
        raise ConfigError(
            f"--model {request.name} takes no score: L, every LLR>k, LLR_ada and KL<=L are swept"
        )
    if not _is_hierarchical(request.detector):
        known = ", ".join(n for n in DETECTORS.names() if _is_usable(n))
        raise ConfigError(
            f"detector {request.name!r} has no hierarchy of latents to allocate; one of {known}"
        )


def _is_hierarchical(cls: type[Detector]) -> bool:
    return bool(cls.recipe_variant) and "LLR>k" in cls.score_patterns and cls.members == 1


def _is_usable(name: str) -> bool:
    try:
        return _is_hierarchical(DETECTORS.get(name))
    except OodbenchError:
        return False


def uniform_recipe(
    shape: tuple[int, int, int], variant: str, scale: str, layers: int | None,
    pairs: Sequence[Pair],
) -> RecipeFile:  # fmt: skip
    """The first recipe by name for images of a shape whose latents are all of one kind.

    Then a dimension means the same thing in every layer.  One of oodbench goes before one of a
    plug-in; where none is made for the shape, one is derived.  ConfigError where there is none.
    """
    own = built_in().path / "recipes"
    listed = sorted(recipe_files().values(), key=lambda f: (Path(f.origin).parent != own, f.name))
    suiting = [file for file in listed if _suits(file, variant, scale, layers)]
    for file in suiting:
        if file.shape == shape:
            return file
    if suiting:
        chosen = nearest([(file.name, file.shape) for file in suiting], shape)
        return derive(next(file for file in suiting if file.name == chosen), shape)
    size, deep = "×".join(map(str, shape)), f" {layers}" if layers else ""
    raise ConfigError(
        f"no recipe for images of {size} ({pairs[0].in_dist}) has{deep} layers with latents of one"
        f" kind and a variant {variant!r} at scale {scale}; name one with --recipe"
    )


def _suits(file: RecipeFile, variant: str, scale: str, layers: int | None) -> bool:
    body = file.scales.get(scale, {})
    if variant not in cast("Mapping[str, JSON]", body.get("variants", {"": {}})):
        return False
    recipe = resolve(file, scale, variant)
    found = latents(recipe) if hasattr(recipe.config, "dims") else []
    kinds = {latent.kind for latent in found}
    return len(found) > 1 and len(kinds) == 1 and layers in (None, len(found))


def _notes(own: Sequence[Latent], file: RecipeFile, budget: int) -> list[str]:
    kinds = [latent.kind for latent in own]
    unit = {"conv": "channels", "dense": "units"}
    if len(set(kinds)) == 1:
        return [f"{file.name}: {budget} {unit[kinds[0]]} in {len(kinds)} {kinds[0]} latents."]
    named = ", ".join(unit[kind] for kind in kinds)
    return [
        f"{file.name}: {budget} dimensions in {len(kinds)} latents of several kinds ({named}, from"
        " the image upwards), so that a dimension is not the same thing in every layer."
    ]
