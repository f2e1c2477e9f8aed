"""The fifteen corruptions of Hendrycks and Dietterich, at their severities 1 to 5.

Hendrycks, Dietterich, ICLR 2019 (arXiv 1903.12261), with the constants of CIFAR-10-C (public code
`ImageNet-C/create_c/make_cifar_c.py`, read).  Images of any size take the constants of 32×32; where
that code writes 32, the image's own side stands here.  A grey image is its own V of HSV and its own
luma.  x is the image / 255; results are clipped to 0 … 1, times 255, cut to whole numbers (not
rounded), as the published arrays are.

What differs: OpenCV interpolates `elastic_transform`'s affine map in steps of 1/32 of a pixel, this
exactly; random draws are keyed by image, so that images agree in distribution and not one by one.
`glass_blur` copies the neighbour where the paper says that two pixels are exchanged: the public
code does so on colour images, since numpy's views alias there, and CIFAR-10-C holds the outcome.
`frost` takes the authors' photographs (`oodbench.datasets.sources.frost`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from oodbench.errors import DataError

#: The authors' photographs, (H, W, 3) uint8 each.
Photographs = Callable[[], Sequence[np.ndarray]]
Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
#: ITU-R 601.
LUMA = (0.299, 0.587, 0.114)


def gaussian_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """x + σ ε."""
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return x + generator.normal(scale=sigma, size=x.shape)


def shot_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Poisson(c x) / c."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return generator.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A share of the single values, not of the pixels, becomes 0 or 1, each as often."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit = generator.random(x.shape) < share
    return np.where(hit, generator.random(x.shape) < 0.5, x)


def defocus_blur(x: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    """Correlation with a disk that is itself smoothed by a 3×3 Gaussian."""
    from scipy.ndimage import correlate, correlate1d

    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    line = np.arange(-8, 9)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(float)
    kernel = disk / disk.sum()
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    for axis in (0, 1):
        kernel = correlate1d(kernel, taps / taps.sum(), axis, mode="mirror")
    return np.stack([correlate(c, kernel, mode="mirror") for c in np.moveaxis(x, 2, 0)], axis=2)


def glass_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Pixels take the value of a neighbour, between two slight Gaussian blurs."""
    constants = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    sigma, reach, rounds = constants[severity - 1]
    image = np.clip(255.0 * _gaussian(x, sigma), 0, 255).astype(np.uint8)
    for _ in range(rounds):
        for row in range(x.shape[0] - reach, reach, -1):
            for column in range(x.shape[1] - reach, reach, -1):
                right, down = generator.integers(-reach, reach, 2)
                image[row, column] = image[row + down, column + right]
    return _gaussian(image / 255.0, sigma)


def motion_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Along a line at −45° to 45°, as ImageMagick blurs."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    moved = move(x, radius, sigma, generator.uniform(-45, 45))
    return moved + 0.5 / 255  # whole numbers already: cutting must not lose one


def zoom_blur(x: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    """The mean of the image and of its centre, magnified step by step."""
    last = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, last, 0.01)
    x = x.astype(np.float32)
    total = x.copy()
    for factor in factors:
        total += magnified(x, float(factor))
    return total / (len(factors) + 1)


def snow(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A paler image under flakes that fall, once as drawn and once turned by 180°."""
    mean, sd, zoom, least, radius, sigma, kept = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    flakes = magnified(generator.normal(mean, sd, x.shape[:2])[..., None], zoom)
    flakes[flakes < least] = 0
    seen = np.clip(255.0 * flakes, 0, 255).astype(np.uint8) / 255.0
    fallen = move(seen, radius, sigma, generator.uniform(-135, -45))
    luma = x @ np.array(LUMA)[:, None] if x.shape[2] == 3 else x
    paler = kept * x + (1 - kept) * np.maximum(x, 1.5 * luma + 0.5)
    covered: np.ndarray = paler + fallen + np.rot90(fallen, k=2)
    return covered


def frost(
    x: np.ndarray, severity: int, generator: np.random.Generator, photographs: Photographs
) -> np.ndarray:
    """A window of a photograph of frost on glass, reduced to a fifth, laid over the image."""
    kept, laid = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    pictures = photographs()
    ice = pictures[int(generator.integers(len(pictures)))] / 255.0
    if any(ice.shape[i] <= x.shape[i] for i in (0, 1)):
        raise DataError(
            f"frost's photographs, a fifth of their size, are as small as {ice.shape[0]}×"
            f"{ice.shape[1]}; images of {x.shape[0]}×{x.shape[1]} are larger: @resize(32) first"
        )
    top, left = (int(generator.integers(ice.shape[i] - x.shape[i])) for i in (0, 1))
    window = ice[top : top + x.shape[0], left : left + x.shape[1]]
    if x.shape[2] == 1:
        window = window @ np.array(LUMA)[:, None]
    return kept * x + laid * window


def fog(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A plasma fractal added, the whole scaled back to the image's maximum."""
    amount, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1.0, 2), (1.5, 1.75))[severity - 1]
    high, (height, width) = x.max(), x.shape[:2]
    side = 2 ** math.ceil(math.log2(max(height, width, 2)))
    cloud = plasma(side, decay, generator)[:height, :width, None]
    hazy: np.ndarray = (x + amount * cloud) * high / (high + amount)
    return hazy


def brightness(x: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    """V of HSV raised by a constant, hue and saturation kept.

    In RGB that is every channel times (V + b) / V, since H and S are ratios of them; black becomes
    grey.
    """
    raised = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = x.max(axis=2, keepdims=True)
    wanted = np.clip(value + raised, 0, 1)
    brighter: np.ndarray = np.where(value > 0, x * wanted / np.where(value > 0, value, 1), wanted)
    return brighter


def contrast(x: np.ndarray, severity: int, _: np.random.Generator) -> np.ndarray:
    """m + c (x − m), m the mean of each channel."""
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = x.mean(axis=(0, 1), keepdims=True)
    flat: np.ndarray = (x - mean) * factor + mean
    return flat


def elastic_transform(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A random affine map, then displacements drawn alike and smoothed."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    side = min(x.shape[:2])
    constants = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
                 (0.1, 0.03, 0.03))  # fmt: skip
    strength, sigma, affine = (side * share for share in constants[severity - 1])
    moved = _warped(x, *_three_points(x.shape, affine, generator))
    drift = [
        strength
        * gaussian_filter(generator.uniform(-1, 1, x.shape[:2]), sigma, mode="reflect", truncate=3)
        for _ in range(2)
    ]
    rows, columns = np.indices(x.shape[:2], dtype=float)
    places = np.stack([rows + drift[1], columns + drift[0]])
    return np.stack(
        [map_coordinates(c, places, order=1, mode="reflect") for c in np.moveaxis(moved, 2, 0)],
        axis=2,
    )


def pixelate(image: np.ndarray, severity: int) -> np.ndarray:
    """(H, W, C) uint8 reduced and enlarged again, by boxes."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = image.shape[:2]
    small = (max(1, int(width * share)), max(1, int(height * share)))
    picture = _picture(image).resize(small, Image.Resampling.BOX)
    return _pixels(picture.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(image: np.ndarray, severity: int) -> np.ndarray:
    """(H, W, C) uint8 written and read again as a JPEG."""
    file = io.BytesIO()
    _picture(image).save(file, format="JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    return _pixels(Image.open(file, formats=["JPEG"]))


#: Those that take x in 0 … 1 and a generator.
DRAWN: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
}
#: Those that Pillow does on 8-bit pixels.
BY_PILLOW = {"pixelate": pixelate, "jpeg_compression": jpeg_compression}


def commonly_corrupted(
    image: np.ndarray,
    name: str,
    severity: int,
    generator: np.random.Generator,
    photographs: Photographs,
) -> np.ndarray:
    """(H, W, C) uint8 through the corruption of this name."""
    if name in BY_PILLOW:
        return BY_PILLOW[name](image, severity)
    x = image / 255.0
    if name == "frost":
        done = frost(x, severity, generator, photographs)
    else:
        done = DRAWN[name](x, severity, generator)
    cut: np.ndarray = (255.0 * np.clip(done, 0, 1)).astype(np.uint8)
    return cut


def move(x: np.ndarray, radius: float, sigma: float, degrees: float) -> np.ndarray:
    """ImageMagick's motion blur: one-sided Gaussian weights on the pixels nearest to a line.

    Weights exp(−i² / 2σ²) for i = 0 … 2 radius, at offsets i (cos, sin) rounded to whole pixels;
    beyond the edge its nearest pixel stands.  Rounded to 16 bits, then cut to 8, as it does.
    """
    steps = np.arange(2 * math.ceil(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    right, down = (
        np.ceil(steps * part - 0.5).astype(int) for part in (math.cos(angle), math.sin(angle))
    )
    rows, columns = np.indices(x.shape[:2])
    total = np.zeros(x.shape)
    for weight, across, below in zip(weights, right, down, strict=True):
        near_rows = np.clip(rows + below, 0, x.shape[0] - 1)
        near_columns = np.clip(columns + across, 0, x.shape[1] - 1)
        total += weight * x[near_rows, near_columns]
    cut: np.ndarray = np.rint(65535.0 * total) // 257 / 255.0
    return cut


def magnified(x: np.ndarray, factor: float) -> np.ndarray:
    """The centre of (H, W, C), magnified to H×W by linear interpolation."""
    from scipy.ndimage import zoom

    height, width = x.shape[:2]
    part = [math.ceil(side / factor) for side in (height, width)]
    top, left = ((side - inner) // 2 for side, inner in zip((height, width), part, strict=True))
    large = zoom(
        x[top : top + part[0], left : left + part[1]], (factor, factor, 1), order=1
    )  # at least H×W
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    window: np.ndarray = large[top : top + height, left : left + width].copy()
    return window


def plasma(side: int, decay: float, generator: np.random.Generator) -> np.ndarray:
    """A height map (side, side) in 0 … 1 by the diamond-square algorithm on a torus.

    `side` is a power of two.  What is added at a level is uniform in ±w², w falling from 100 by
    `decay` a level.
    """
    heights = np.zeros((side, side))
    step, wobble = side, 100.0

    def means(*around: np.ndarray) -> np.ndarray:
        drawn = wobble * generator.uniform(-wobble, wobble, around[0].shape)
        return sum(around, np.zeros(around[0].shape)) / 4 + drawn

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step].copy()
        below = np.roll(corners, -1, axis=0)
        right = np.roll(corners, -1, axis=1)
        centres = means(corners, below, right, np.roll(below, -1, axis=1))
        heights[half::step, half::step] = centres
        heights[::step, half::step] = means(corners, right, centres, np.roll(centres, 1, axis=0))
        heights[half::step, ::step] = means(corners, below, centres, np.roll(centres, 1, axis=1))
        step, wobble = half, wobble / decay
    heights -= heights.min()
    scaled: np.ndarray = heights / heights.max()
    return scaled


def _three_points(
    shape: Sequence[int], spread: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Three points (x, y) about the centre, and the same moved by up to `spread` each way."""
    height, width = shape[:2]
    first, second, arm = height // 2, width // 2, min(height, width) // 3
    before = np.array(
        [[first + arm, second + arm], [first + arm, second - arm], [first - arm, second - arm]],
        float,
    )
    return before, before + generator.uniform(-spread, spread, before.shape)


def _warped(x: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(H, W, C) under the affine map that takes the points (x, y) of `before` to `after`."""
    from scipy.ndimage import map_coordinates

    # A pixel of the result is looked up where the inverse map finds it.
    inverse = np.linalg.solve(np.column_stack([after, np.ones(3)]), before)  # (3, 2)
    rows, columns = np.indices(x.shape[:2], dtype=float)
    found = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ inverse
    places = np.stack([found[..., 1], found[..., 0]])
    return np.stack(
        [map_coordinates(c, places, order=1, mode="mirror") for c in np.moveaxis(x, 2, 0)], axis=2
    )


def _gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    blurred: np.ndarray = gaussian_filter(x, (sigma, sigma, 0), mode="nearest")
    return blurred


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))


def _pixels(picture: Image.Image) -> np.ndarray:
    values = np.asarray(picture)
    return values[:, :, None] if values.ndim == 2 else values
