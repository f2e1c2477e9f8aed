"""Classes that have training images: a classifier has an output for each of them and for no other.

A recipe says how many classes its model has.  An ID set may hold fewer, such as ``mnist[0-4]``; an
output, a mean or a probability of a class without a single image stands for nothing, and would
enter every minimum and every sum over the classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from oodbench.detect.entitlement import labels_for
from oodbench.errors import ConfigError, DataError
from oodbench.seeding import training_split

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet
    from oodbench.declare.recipes import Recipe


def present(recipe: Recipe, train: ImageSet) -> np.ndarray:
    """The labels (K,), sorted, of the images that the recipe trains on."""
    labels = labels_for(recipe, train)
    assert labels is not None
    limit = recipe.training.max_images
    if limit is not None and limit < len(labels):
        labels = labels[training_split(len(labels), limit)[0]]
    return np.unique(labels)


def numbered(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Place (N,) of labels among the sorted `classes`, −1 where a label is none of them."""
    place = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    return np.where(classes[place] == labels, place, -1)


def with_classes(recipe: Recipe, train: ImageSet) -> Recipe:
    """The recipe with as many classes as its training images have, where it names more.

    ConfigError where it names fewer, DataError where there is one class alone.
    """
    named = getattr(recipe.config, "classes", None)
    if not isinstance(named, int):
        return recipe
    count = len(present(recipe, train))
    if count > named:
        raise ConfigError(
            f"{train.name} has {count} classes, the recipe {recipe.label} {named}; set"
            f" model.classes to {count} in the recipe"
        )
    if count < 2:
        raise DataError(
            f"the training images of {train.name} are of one class, and the recipe {recipe.label}"
            " learns to tell classes apart; choose an ID set with more, or other detectors"
        )
    if count == named:
        return recipe
    config = recipe.config.model_copy(update={"classes": count})  # type: ignore[attr-defined]
    return replace(recipe, config=config)
