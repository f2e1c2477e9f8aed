"""Images that stand in arrays: shapes, and one scale of values for all parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from oodbench.datasets.reading.pixel_values import (
    PLAIN,
    Asked,
    Seen,
    asked_for,
    look,
    said,
    scale_of,
)
from oodbench.datasets.sources.raw_images import Reading
from oodbench.errors import DataError


@dataclass(frozen=True)
class StoredArray:
    """An array of N images that is read when `read` is called; its shape and type are known.

    DataError where they are not those of images.
    """

    read: Callable[[], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    where: str

    def __post_init__(self) -> None:
        if self.dtype.hasobject:
            self.read()  # says how to store them
        _check(self.shape, self.dtype, self.where)

    @property
    def count(self) -> int:
        """The number of images."""
        return self.shape[0]


@dataclass(frozen=True)
class ArrayImages:
    """`parts` by name; `name` is the set's, for what a message advises."""

    parts: Mapping[str, StoredArray]
    name: str

    def names(self, part: str) -> None:
        """Rows of an array have none."""

    def counts(self) -> Mapping[str, int]:
        """The number of images of every part."""
        return {part: stored.count for part, stored in self.parts.items()}

    def read(
        self, part: str, chosen: np.ndarray | None, asked: Asked | None, reading: Reading
    ) -> np.ndarray:
        """(N, H, W, C) uint8 of a part, scaled as `asked` or as all parts together ask for."""
        stored = self.parts[part]
        images = channels_last(stored.read(), stored.where)
        bytes_only = all(other.dtype == np.uint8 for other in self.parts.values())
        wanted = None if asked is None else asked.of(bytes_only)
        if wanted is None and bytes_only and images.max() > 1:
            return images if chosen is None else images[chosen]
        if wanted is None:
            seen = self._seen(part, images)
            scale = scale_of(seen, self.name)
            note = said(seen, scale)
        else:
            scale, note = wanted, asked_for(wanted)
        if note:
            reading.notes.append(note)
        if scale != PLAIN:
            reading.values = (scale.low, scale.high)
        return scale.apply(images if chosen is None else images[chosen])

    def _seen(self, part: str, images: np.ndarray) -> Seen:
        every = [look(images, self.parts[part].where, len(images))]
        for name, other in self.parts.items():
            if name != part:
                array = channels_last(other.read(), other.where)
                every.append(look(array, other.where, len(array)))
        return reduce(add, every)


def channels_last(array: np.ndarray, where: str) -> np.ndarray:
    """(N, H, W, C) from (N, H, W), (N, H, W, 1|3) or (N, 1|3, H, W); DataError otherwise."""
    _check(array.shape, array.dtype, where)
    if array.ndim == 3:
        array = array[..., None]
    return array if array.shape[3] in (1, 3) else array.transpose(0, 2, 3, 1)


def _check(shape: tuple[int, ...], dtype: np.dtype[np.generic], where: str) -> None:
    if dtype.kind not in "buif":
        raise DataError(f"{where}: images are {dtype}; store them as uint8 0..255")
    if 0 in shape:
        raise DataError(f"{where}: there are no images in it (shape {shape})")
    if len(shape) == 3 or (len(shape) == 4 and (shape[3] in (1, 3) or shape[1] in (1, 3))):
        return
    raise DataError(
        f"{where}: images have shape {shape}; expected (N, H, W), (N, H, W, 3) or (N, 3, H, W)"
    )
