"""The sweep of a grid of settings of a recipe: every combination as ordinary runs.

The recipe's own settings stand first, as what the others are compared with.  The choice is made on
ID data alone: the highest mean ELBO of held-out ID images, the first of equals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from oodbench.canonical_json import JSON
from oodbench.datasets.pairs import Pair
from oodbench.declare.overrides import nested
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.errors import ConfigError
from oodbench.flow.default_recipe import default_recipe
from oodbench.flow.plan import DetectorRequest, parse_detector
from oodbench.sweeps.allocation import check_model
from oodbench.sweeps.points import Point, Sweep

OWN = "the recipe's own"
#: More are a slip.
MOST = 200


def plan_grid(
    model: str, pairs: Sequence[Pair], shape: tuple[int, int, int],
    grid: Mapping[str, Sequence[JSON]], *, recipe: str, scale: str, seeds: Sequence[int],
    overrides: Mapping[str, JSON],
) -> Sweep:  # fmt: skip
    """The sweep of one model, ``NAME[@RECIPE]``, over all combinations of the values of `grid`.

    Raises UnknownNameError on an unknown model, recipe or scale, ConfigError on a setting that the
    recipe does not have and on a model without latent layers.
    """
    request = parse_detector(model)
    check_model(request)
    if "training.snapshots" in grid:
        raise ConfigError(
            "training.snapshots is no setting to choose by; vary training.epochs, or ask `oodbench"
            " run` for the snapshots of one training"
        )
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if len(combinations) > MOST:
        raise ConfigError(
            f"--set makes {len(combinations):,} combinations, more than {MOST}; list fewer values"
        )
    name, variant = request.recipe or recipe, request.detector.recipe_variant
    in_dist = pairs[0].in_dist
    file = find_recipe(name) if name else default_recipe(in_dist, shape, variant, scale)
    points = [Point(0.0, OWN, overrides)]
    for number, settings in enumerate(combinations, start=1):
        whole = nested({**overrides, **settings})
        resolved = resolve(file, scale, variant, whole)
        shown = [text for text in resolved.overrides if text.partition("=")[0] in grid]
        points.append(Point(float(number), ", ".join(shown) or OWN, whole))
    distinct = {point.label: point for point in reversed(points)}
    kept = sorted(distinct.values(), key=lambda point: point.value)
    return Sweep(
        DetectorRequest(request.name, file.name), tuple(pairs), tuple(kept), 0.0, scale,
        tuple(seeds), "setting", "Settings",
        (f"{file.name}: {len(kept)} settings, 0 the recipe's own.",), whole_bound=True,
    )  # fmt: skip
