"""Corruptions of one image, for OOD sets that differ from the ID set in one known way.

x is the 8-bit image, x / 255 its range of 0 … 1; results are rounded and clipped to 0 … 255.
What is random is keyed by (step, split, index of the image in its set), so that an image is
corrupted alike whichever other images are present.

    blur(σ)        Gaussian filter of σ pixels, edges mirrored, each channel
    noise(σ)       x + 255 σ ε, ε ~ N(0, 1) at every pixel and channel
    saltpepper(p)  a pixel becomes 0 or 255 (all channels), each with probability p / 2
    contrast_factor(c)   m + c (x − m), m the image's mean of each channel
    brightness_shift(b)  x + 255 b
    jpeg(q)        written and read again as a JPEG of quality q
    posterize(n)   the n highest bits of every value
    rotate(a)      by a degrees counter-clockwise about the centre, bilinear, corners black
    hflip, vflip   mirrored left to right, top to bottom
    shuffle        the pixels in an order drawn for each image, all channels alike

Those of Hendrycks, Dietterich, ICLR 2019 (arXiv 1903.12261), have their names and severities:
`oodbench.datasets.common_corruptions`.  Mirrored sets stand in Morningstar et al. 2021 (arXiv
2006.09273).
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from oodbench.datasets.common_corruptions import Photographs, commonly_corrupted
from oodbench.datasets.naming import COMMON, CORRUPTIONS, call
from oodbench.errors import DataError
from oodbench.seeding import derive_seed

#: Part of the identity of a corrupted split: bump it when pixels change.
REVISION = 1


def no_photographs() -> list[np.ndarray]:
    """DataError: what takes images one by one has no folder of photographs."""
    raise DataError("frost takes photographs from a folder of --data, which is not known here")


def corrupt(
    image: np.ndarray, step: str, index: int, split: str, photographs: Photographs = no_photographs
) -> np.ndarray:
    """(H, W, C) uint8 through one step in canonical form, such as ``blur(2)``.

    `photographs` are those that ``frost`` lays over images.
    """
    name, argument = call(step)
    generator = np.random.default_rng(derive_seed("corruption", REVISION, step, split, index))
    if name in COMMON:
        return commonly_corrupted(image, name, int(argument or 1), generator, photographs)
    return STEPS[name](image, float(argument or 0), generator)


def is_corruption(step: str) -> bool:
    """Whether a step is one of these."""
    return call(step)[0] in CORRUPTIONS


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Rounded to the nearest of 0 … 255."""
    rounded: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


Step = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def _blur(image: np.ndarray, sigma: float, _: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return to_uint8(gaussian_filter(image.astype(np.float64), (sigma, sigma, 0), mode="reflect"))


def _noise(image: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    return to_uint8(image + 255.0 * sigma * generator.standard_normal(image.shape))


def _saltpepper(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    drawn = generator.random((*image.shape[:2], 1))
    return np.where(drawn < share / 2, 0, np.where(drawn < share, 255, image)).astype(np.uint8)


def _contrast_factor(image: np.ndarray, factor: float, _: np.random.Generator) -> np.ndarray:
    mean = image.mean(axis=(0, 1))
    return to_uint8(mean + factor * (image - mean))


def _brightness_shift(image: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    return to_uint8(image + 255.0 * share)


def _jpeg(image: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    _picture(image).save(file, format="JPEG", quality=int(quality))
    return _pixels(Image.open(file, formats=["JPEG"]))


def _posterize(image: np.ndarray, bits: float, _: np.random.Generator) -> np.ndarray:
    return _pixels(ImageOps.posterize(_picture(image), int(bits)))


def _rotate(image: np.ndarray, degrees: float, _: np.random.Generator) -> np.ndarray:
    return _pixels(_picture(image).rotate(degrees, Image.Resampling.BILINEAR))


def _hflip(image: np.ndarray, _: float, __: np.random.Generator) -> np.ndarray:
    return image[:, ::-1]


def _vflip(image: np.ndarray, _: float, __: np.random.Generator) -> np.ndarray:
    return image[::-1]


def _shuffle(image: np.ndarray, _: float, generator: np.random.Generator) -> np.ndarray:
    flat = image.reshape(-1, image.shape[2])
    return flat[generator.permutation(len(flat))].reshape(image.shape)


STEPS: dict[str, Step] = {
    "blur": _blur,
    "brightness_shift": _brightness_shift,
    "contrast_factor": _contrast_factor,
    "hflip": _hflip,
    "jpeg": _jpeg,
    "noise": _noise,
    "posterize": _posterize,
    "rotate": _rotate,
    "saltpepper": _saltpepper,
    "shuffle": _shuffle,
    "vflip": _vflip,
}


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))


def _pixels(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture)
    return values[:, :, None] if values.ndim == 2 else values
