"""A recipe for a shape that none is made for: the nearest one, adapted by one rule.

    base       of the recipes with the variant and scale, one of as many colours where there is one,
               then the one of the nearest area, then one that names no ID set, then by name
    h          how often the side √(HW) must be halved to come nearest to the base's; 0 where it is
               no larger
    network    its configuration's `for_shape`: h halvings more, in the stages that the family has
               for it, and no more of them than the image allows
    budget     as many pixels as the base is trained on: images of an epoch × HW of the base / HW,
               where an epoch is the whole training set, epochs (and the warm-ups counted in them)
    batch      halved h times, 8 at least, so that memory stays near that of the base
    sets       that the base declares (validation, outliers) come in the size and colours of the ID
               images; at scale smoke those that ship with the package stand for them

A derived recipe is called ``BASE-CxHxW``.  What it holds is keyed like that of any recipe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import cast

from oodbench.canonical_json import JSON

Shape = tuple[int, int, int]
#: ``C3-3x64x64``
_NAME = re.compile(r"(?P<base>.+)-(?P<c>[13])x(?P<h>[1-9][0-9]{0,4})x(?P<w>[1-9][0-9]{0,4})")
LEAST_BATCH = 8
#: The scale whose declared sets must be on every machine, and what stands for them.
SHIPPED_SCALE, SHIPPED = "smoke", "flower@resize"


def derived_name(base: str, shape: Shape) -> str:
    """``C3-3x64x64``."""
    return f"{base}-{'x'.join(map(str, shape))}"


def parse_derived(name: str) -> tuple[str, Shape] | None:
    """The base and the shape of a derived recipe's name; None where it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return found["base"], (int(found["c"]), int(found["h"]), int(found["w"]))


def nearest(shapes: Iterable[tuple[str, Shape]], shape: Shape) -> str:
    """The name of the base for images of `shape`, the first of equals."""

    def distance(item: tuple[str, Shape]) -> tuple[bool, float]:
        channels, height, width = item[1]
        ratio = math.log(height * width / (shape[1] * shape[2]))
        return channels != shape[0], round(abs(ratio), 9)

    return min(shapes, key=distance)[0]


def halvings(made_for: Shape, shape: Shape) -> int:
    """h of the rule."""
    ratio = shape[1] * shape[2] / (made_for[1] * made_for[2])
    return max(0, round(math.log2(ratio) / 2))


def adapted_model(config: Mapping[str, JSON], share: float) -> dict[str, JSON]:
    """A model's settings with the epochs that are counted in them scaled by `share`."""

    def scaled(value: JSON) -> JSON:
        if isinstance(value, Mapping):
            return {
                key: max(1, round(item * share))
                if key.endswith("_epochs") and isinstance(item, int) and item > 0
                else scaled(item)
                for key, item in value.items()
            }
        return [scaled(item) for item in value] if isinstance(value, list) else value

    return cast("dict[str, JSON]", scaled(config))


def pixel_share(made_for: Shape, shape: Shape) -> float:
    """Images to train on by those of the base, 1 for images that are no larger."""
    return min(1.0, made_for[1] * made_for[2] / (shape[1] * shape[2]))


def adapted_training(
    training: Mapping[str, JSON], made_for: Shape, shape: Shape, scale: str
) -> dict[str, JSON]:
    """The training of the base for images of `shape`."""
    share, found = pixel_share(made_for, shape), dict(training)
    batch = int(cast(int, found["batch_size"]))
    batch = min(batch, max(LEAST_BATCH, batch >> halvings(made_for, shape)))
    found["batch_size"] = batch
    images = found.get("epoch_images")
    if images is None:
        found["epochs"] = max(1, round(int(cast(int, found["epochs"])) * share))
        kept = cast("list[int]", found.get("snapshots") or [])
        if kept:
            scaled = sorted({max(1, round(epochs * share)) for epochs in kept})
            found["snapshots"] = cast("list[JSON]", scaled)
    else:
        found["epoch_images"] = max(batch, round(int(cast(int, images)) * share))
    outliers = cast("Mapping[str, JSON] | None", found.get("outliers"))
    if outliers and outliers["kind"] == "set":
        if scale == SHIPPED_SCALE:
            found["outliers"] = {"kind": "mutated", "rate": 1.0}
        else:
            found["outliers"] = {
                **outliers,
                "name": _fitted(str(outliers["name"]), made_for, shape),
            }
    return found


def adapted_measure(
    measure: Mapping[str, JSON], made_for: Shape, shape: Shape, scale: str
) -> dict[str, JSON]:
    """How the base measures, its validation set in the shape of the images."""
    found = dict(measure)
    validation = cast("Mapping[str, JSON] | None", found.get("validation"))
    if validation and not str(validation["name"]).startswith("@"):
        grey = (1, *made_for[1:])
        name = (
            _fitted(SHIPPED, grey, shape)
            if scale == SHIPPED_SCALE
            else _fitted(str(validation["name"]), made_for, shape)
        )
        found["validation"] = {**validation, "name": name}
    return found


def _fitted(name: str, made_for: Shape, shape: Shape) -> str:
    """A data set's name with the steps that bring it to the colours and size of the ID images."""
    base, *steps = name.split("@")
    steps = [step for step in steps if not step.startswith(("resize", "crop"))]
    if made_for[0] != shape[0]:
        steps.append("grey" if shape[0] == 1 else "rgb")
    return "@".join([base, *steps, "resize"])


def derived_note(base: str, made_for: Shape, shape: Shape) -> str:
    """What stands under a table with a run of it."""
    size = "×".join(map(str, made_for))
    more = halvings(made_for, shape)
    deeper = f", {more} halving{'s' if more > 1 else ''} more" if more else ""
    share = pixel_share(made_for, shape)
    budget = "" if share == 1 else f", trained on {share:.3g} times as many images (as many pixels)"
    return f"derived from {base}, which is made for {size}{deeper}{budget}."
