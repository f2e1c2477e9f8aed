"""Who may be handed what: labels and outliers by a detector's category.

| category               | ID images | ID labels | declared outliers,    | OOD test images |
|                        |           |           | validation OOD images |                 |
|------------------------|-----------|-----------|-----------------------|-----------------|
| unsupervised, ensemble | yes       | no        | no                    | no              |
| labels                 | yes       | yes       | no                    | no              |
| prior                  | yes       | yes       | yes                   | no              |

What a detector may not have is not passed to it, nor to the models of its recipe.  OOD test images
are measured batch by batch like any other, without a sign of where they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from oodbench.datasets.duplicates import count_copies
from oodbench.errors import ConfigError, DataError, PluginError

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet
    from oodbench.declare.recipes import Recipe
    from oodbench.detect.detector import Detector

WITH_LABELS = ("labels", "prior")
WITH_OUTLIERS = ("prior",)


def takes_labels(recipe: Recipe) -> bool:
    """Whether the recipe's model asks for the labels of the training images."""
    return bool(getattr(type(recipe.config), "needs_labels", False))


def takes_outliers(recipe: Recipe) -> bool:
    """Whether the recipe's model, as configured, asks for outliers."""
    return bool(getattr(recipe.config, "needs_outliers", False))


def check_recipe(detector: Detector, recipe: Recipe) -> None:
    """PluginError where the recipe hands its model more than the detector's category allows.

    ConfigError where the model and the training settings disagree about outliers.
    """
    where = f"detector {detector.name!r} of the category {detector.category}"
    if takes_labels(recipe) and detector.category not in WITH_LABELS:
        raise PluginError(
            f"{where} stands on the recipe {recipe.label}, which learns from labels; register it"
            f" with one of the categories {', '.join(WITH_LABELS)}"
        )
    if recipe.training.outliers is not None and detector.category not in WITH_OUTLIERS:
        raise PluginError(
            f"{where} stands on the recipe {recipe.label}, which learns from outliers; register"
            f" it with the category {', '.join(WITH_OUTLIERS)}"
        )
    if type(detector).chooses() and detector.category not in WITH_OUTLIERS:
        raise PluginError(
            f"{where} chooses on validation OOD images; register it with the category"
            f" {', '.join(WITH_OUTLIERS)}"
        )
    if type(detector).chooses() and recipe is detector.recipe and recipe.measure.validation is None:
        raise ConfigError(
            f"recipe {recipe.label}, variant {recipe.variant!r}: {detector.name} chooses on a"
            " validation OOD set; declare one in measure.validation"
        )
    if takes_outliers(recipe) != (recipe.training.outliers is not None):
        has = "no outliers" if takes_outliers(recipe) else "outliers that the model does not take"
        raise ConfigError(
            f"recipe {recipe.label}, variant {recipe.variant!r}: training has {has}; set"
            " model.exposure and training.outliers together"
        )


def handed(detector: Detector, train: ImageSet) -> ImageSet:
    """The training images as `fit` is given them: labels only where the category has them.

    Without `verify` and `stored_hashes`, which know the files of the set.
    """
    from oodbench.datasets.imageset import unchecked

    given = replace(train, verify=unchecked, stored_hashes=None)
    return given if detector.category in WITH_LABELS else given.without_labels()


def labels_for(recipe: Recipe, train: ImageSet) -> np.ndarray | None:
    """The labels for a model that asks for them; DataError where the set has none."""
    if not takes_labels(recipe):
        return None
    if train.labels is None and train.unlabelled:
        raise DataError(
            f"the labels of {train.name} cannot be used ({train.unlabelled}), and the recipe"
            f" {recipe.label} learns from them; store a whole number or text an image, or choose"
            " detectors of another category"
        )
    if train.labels is None:
        raise DataError(
            f"{train.name} has no labels, and the recipe {recipe.label} learns from them; choose an"
            " ID set with labels, or detectors of another category"
        )
    return train.labels


def check_disjoint(
    outliers: ImageSet, ood: ImageSet, untouched: Callable[[ImageSet], ImageSet]
) -> None:
    """DataError where declared images come from the OOD set, or share an image with it.

    `outliers`: those that a model learns from, or those that a detector chooses on.  Two sets are
    one where they are one without their classes and steps.  Images are compared as they are and,
    where `untouched` can give them, as they were before all steps: a blurred copy is a copy.
    """
    from oodbench.datasets.spec import parse_name

    names = [parse_name(images.name) for images in (outliers, ood)]
    declared = f"{outliers.name}, declared as outliers or for validation,"
    if outliers.fingerprint == ood.fingerprint or names[0].base == names[1].base:
        same = outliers.name == ood.name
        which = "is" if same else f"comes from {names[0].base}, as does {ood.name},"
        raise DataError(
            f"{declared} {which} the OOD set of the pair; declare another set in the recipe"
        )
    shared = count_copies(outliers.hashes(), ood.hashes())
    if not shared and any(name.variants for name in names):
        with suppress(DataError):  # images of many sizes cannot be had as they were
            before = [untouched(images) for images in (outliers, ood)]
            shared = count_copies(*(images.hashes() for images in before))
    if shared:
        raise DataError(
            f"{outliers.name} {outliers.split}, declared as outliers or for validation, shares"
            f" {shared:,} images with the OOD set {ood.name}; declare another set in the recipe"
        )
