"""Some of the images of a source: those of some classes, such as ``mnist[0-4]``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from oodbench.datasets.naming import class_numbers
from oodbench.datasets.sources.raw_images import Raw
from oodbench.datasets.spec import DatasetName
from oodbench.errors import DataError


def keep_classes(raw: Raw, name: DatasetName, classes: tuple[str, ...]) -> Raw:
    """The images whose label is among those of `name`, in their order, with their labels.

    `classes` are the names of the labels 0, 1, … where they are known.  DataError where the images
    have no labels, or where a class has no image.
    """
    if raw.labels is None and raw.unlabelled:
        raise DataError(
            f"{name.whole}: the labels of {name.base} cannot be used ({raw.unlabelled}), so that no"
            f" class can be chosen; store a whole number or text an image, or use {name.base} whole"
        )
    if raw.labels is None:
        raise DataError(
            f"{name.whole}: the images of {name.base} come without labels, so that no class can be"
            " chosen; give an .npz with an array 'labels' or a folder with one folder a class, or"
            f" use {name.base} whole"
        )
    wanted = class_numbers(name.classes, classes, name.base)
    present = set(np.unique(raw.labels).tolist())
    if wanted - present:
        held = ", ".join(str(label) for label in sorted(present)[:20])
        missing = ", ".join(str(label) for label in sorted(wanted - present)[:20])
        raise DataError(
            f"{name.whole}: no image has the label {missing}; the labels here are {held}"
        )
    return pick(raw, np.flatnonzero(np.isin(raw.labels, sorted(wanted))))


def pick(raw: Raw, chosen: np.ndarray) -> Raw:
    """The images at the places `chosen`, which ascend, with what belongs to them."""
    images: np.ndarray | Iterable[np.ndarray]
    if isinstance(raw.images, np.ndarray):
        images = raw.images[chosen]
    else:
        images = _some(raw.images, set(chosen.tolist()))
    return raw.chosen(chosen, images)


def _some(images: Iterable[np.ndarray], chosen: set[int]) -> Iterator[np.ndarray]:
    for index, image in enumerate(images):
        if index in chosen:
            yield image
