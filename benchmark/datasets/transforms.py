"""Named transforms of one image, from native size to the size a model takes.

`resize`: bilinear, antialiased, of the centre square.  `crop`: one random window of the image
after resizing its short side to 5/4 of the target, the position keyed by the image's index.
`nearest`: nearest-neighbour resize of the whole.  With a number, as in `resize(32)`, the target is
a square of that side.  `invert`: 255 − x.  `grey`: ITU-R 601 luma.  `rgb`: three equal channels.
Corruptions: `oodbench.datasets.corruptions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from oodbench.datasets.common_corruptions import Photographs
from oodbench.datasets.corruptions import corrupt, is_corruption, no_photographs
from oodbench.datasets.naming import call
from oodbench.seeding import derive_seed


def apply(
    image: np.ndarray,
    chain: Sequence[str],
    size: tuple[int, int],
    index: int,
    split: str = "",
    photographs: Photographs = no_photographs,
) -> np.ndarray:
    """(H, W, C) uint8 through the named steps; `size` (H, W) is the target of the sizing steps.

    `index` and `split` key what is random in a step; `photographs` are those of the step ``frost``.
    """
    for step in chain:
        if is_corruption(step):
            image = corrupt(image, step, index, split, photographs)
            continue
        name, side = call(step)
        image = _step(image, name, (int(side), int(side)) if side else size, index)
    return image


def _step(image: np.ndarray, step: str, size: tuple[int, int], index: int) -> np.ndarray:
    if step == "invert":
        return 255 - image
    if step == "grey":
        if image.shape[2] == 1:
            return image
        return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
    if step == "rgb":
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    height, width = size
    if step == "nearest":
        return _resized(image, (height, width), Image.Resampling.NEAREST)
    if step == "resize":
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        square = image[top : top + side, left : left + side]
        return _resized(square, (height, width), Image.Resampling.BILINEAR)
    scale = 1.25 * max(height / image.shape[0], width / image.shape[1])
    larger = (max(height, round(image.shape[0] * scale)), max(width, round(image.shape[1] * scale)))
    reduced = _resized(image, larger, Image.Resampling.BILINEAR)
    generator = np.random.default_rng(derive_seed("crop", 0, index))
    top = int(generator.integers(larger[0] - height + 1))
    left = int(generator.integers(larger[1] - width + 1))
    return reduced[top : top + height, left : left + width]


def _resized(image: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    plain = image[:, :, 0] if image.shape[2] == 1 else image
    out = np.asarray(Image.fromarray(plain).resize((size[1], size[0]), method))
    return out[:, :, None] if out.ndim == 2 else out


def image_hash(image: np.ndarray) -> str:
    """SHA-256 of one image's pixels, to recognise duplicates."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
