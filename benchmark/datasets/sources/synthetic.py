"""Generated sets: images that are drawn, in the shape and number of the ID test images.

    uniform    every pixel and channel from U{0, …, 255}
    gaussian   every pixel and channel clip(255 (1/2 + ε)), ε ~ N(0, 1)
    constant   one value U{0, …, 255} a channel, the same at every pixel

The first two are those of Liang, Li, Srikant, ICLR 2018 (arXiv 1706.02690); the first and the
third those of Serrà et al., ICLR 2020 (arXiv 1909.11480).  Image i follows from (set, split, i)
alone: a longer set begins with the images of a shorter one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.datasets.corruptions import to_uint8
from oodbench.datasets.sources.raw_images import Found, Raw
from oodbench.datasets.spec import DatasetName
from oodbench.errors import DataError
from oodbench.seeding import derive_seed

REVISION = 1
Shape = tuple[int, int, int]


def find_generated(name: DatasetName, split: str, like: Shape | None, count: int) -> Found:
    """A generated set of its own number and shape, else `count` images of shape `like` (C, H, W).

    DataError where either is not known: the set stands alone, or is the ID set.
    """
    shape = name.shape or like
    count = name.count or count
    if shape is None or not count:
        raise DataError(
            f"{name.whole}: it takes number and shape from the ID set; to stand alone or as the ID"
            f" set it needs both, as in '{name.base}({name.count or 5000},1x28x28)'"
        )
    identity: dict[str, JSON] = {
        "generated": name.base, "revision": REVISION, "count": count, "shape": list(shape),
    }  # fmt: skip
    base = name.base
    return Found("generated", identity, lambda: Raw(_images(base, split, count, shape), count))


def _images(base: str, split: str, count: int, shape: Shape) -> Iterator[np.ndarray]:
    for index in range(count):
        yield draw(base, split, index, shape)


def draw(base: str, split: str, index: int, shape: Shape) -> np.ndarray:
    """Image `index` of a generated set, (H, W, C) uint8 for `shape` (C, H, W)."""
    generator = np.random.default_rng(derive_seed("generated", base, REVISION, split, index))
    size = (shape[1], shape[2], shape[0])
    if base == "uniform":
        return generator.integers(0, 256, size, dtype=np.uint8)
    if base == "gaussian":
        return to_uint8(255.0 * (0.5 + generator.standard_normal(size)))
    return np.broadcast_to(generator.integers(0, 256, shape[0], dtype=np.uint8), size)
