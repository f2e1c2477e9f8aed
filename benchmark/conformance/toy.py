"""Images whose answer is known: the mock pairs of the conformance suite.

ID images are one wave of low frequency around mid-grey, with a little noise.  OOD images are noise
of high contrast: every value is uniform on 8 … 63 or on 192 … 247.  Their mean is that of the ID
images, so brightness does not tell them apart; they are further from every ID image than uniform
noise is, less compressible than any, and avoid 0 and 255, whose bins hold the whole tail of a
discretised likelihood.  The likelihood paradox (smooth OOD images that are more likely than the ID
ones) has no place here: a model of the ID images that calls this noise more normal has its sign
wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from oodbench.seeding import derive_seed

Shape = tuple[int, int, int]
#: A user's .npz is cut 80/20: 304 training and 76 test images.
ID_IMAGES, OOD_IMAGES = 380, 76


def waves(count: int, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """ID images (N, C, H, W) uint8, and labels (N,): 1 where the wave runs rather along x."""
    channels, height, width = shape
    draw = np.random.default_rng(derive_seed("conformance", "waves", *shape))
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    frequency = draw.uniform(-1, 1, (count, 2, 1, 1))
    phase = draw.uniform(0, 2 * np.pi, (count, 1, 1))
    amplitude = draw.uniform(15, 45, (count, 1, 1))
    angle = 2 * np.pi * (frequency[:, 0] * x + frequency[:, 1] * y) + phase
    gains = np.linspace(1.0, 0.6, channels)[:, None, None]
    values = 128 + (amplitude * np.cos(angle))[:, None] * gains
    values = values + draw.normal(0, 5, (count, *shape))
    labels = (np.abs(frequency[:, 0]) > np.abs(frequency[:, 1])).astype(np.int64)
    return np.round(values).clip(0, 255).astype(np.uint8), labels.reshape(count)


def contrast_noise(count: int, shape: Shape) -> np.ndarray:
    """OOD images (N, C, H, W) uint8, see the module's docstring."""
    draw = np.random.default_rng(derive_seed("conformance", "noise", *shape))
    side = draw.integers(0, 2, (count, *shape))
    return (draw.integers(8, 64, (count, *shape)) + 184 * side).astype(np.uint8)


def extremes(shape: Shape) -> dict[str, np.ndarray]:
    """Images (C, H, W) uint8 on which arithmetic breaks first, by name."""
    channels, height, width = shape
    board = np.indices((height, width)).sum(0) % 2
    dot = np.zeros(shape, np.uint8)
    dot[..., height // 2, width // 2] = 255
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    plain = {
        "all black": np.zeros(shape),
        "all white": np.full(shape, 255),
        "constant grey": np.full(shape, 128),
        "a checkerboard": np.broadcast_to(255 * board, shape),
        "one white pixel on black": dot,
        "a ramp": np.broadcast_to(ramp, shape),
        "noise": contrast_noise(1, (channels, height, width))[0],
    }
    return {name: np.ascontiguousarray(image, dtype=np.uint8) for name, image in plain.items()}


def one_sided(claim: str, shape: Shape, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, C, H, W) uint8 that have less, and more, of what a one-sided statistic claims.

    `claim` is one of `oodbench.detect.detector.ONE_SIDED`.
    """
    draw = np.random.default_rng(derive_seed("conformance", claim, *shape))

    def uniform(low: int, high: int) -> np.ndarray:
        return draw.integers(low, high, (count, *shape)).astype(np.uint8)

    less, more = {
        "bright": lambda: (uniform(60, 100), uniform(140, 180)),
        "varied": lambda: (uniform(110, 146), uniform(60, 196)),
        "comple": lambda: (uniform(126, 130), uniform(64, 192)),
    }[claim.removeprefix("less ").removeprefix("more ")[:6]]()
    return (more, less) if claim.startswith("less ") else (less, more)


def write_toy(folder: Path, shape: Shape) -> tuple[Path, Path]:
    """Files of the ID set, with labels, and of the OOD set."""
    in_dist, ood = folder / "waves.npz", folder / "noise.npz"
    images, labels = waves(ID_IMAGES, shape)
    np.savez(in_dist, images=images.transpose(0, 2, 3, 1), labels=labels)
    np.savez(ood, images=contrast_noise(OOD_IMAGES, shape).transpose(0, 2, 3, 1))
    return in_dist, ood
