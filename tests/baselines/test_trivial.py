"""Trivial detectors: their values by other means, and their fixed sign."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from oodbench.detect.detector import DETECTORS, is_deterministic
from oodbench.rank.metrics import auroc

TRIVIAL = ("mean-intensity", "pixel-variance", "png-length")


def score(name: str, images: np.ndarray) -> np.ndarray:
    detector = DETECTORS.get(name)()
    statistics = detector.measure(torch.from_numpy(images))  # type: ignore[call-arg]
    return detector.score({key: value.numpy() for key, value in statistics.items()})


def noise(low: int, high: int, shape: tuple[int, ...] = (40, 1, 12, 12)) -> np.ndarray:
    return np.random.default_rng(low + high).integers(low, high, shape, dtype=np.uint8)


def test_values() -> None:
    images = noise(0, 256, (3, 3, 5, 7))
    np.testing.assert_allclose(score("mean-intensity", images), images.mean((1, 2, 3)))
    np.testing.assert_allclose(score("pixel-variance", images), images.var((1, 2, 3)))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_length_is_of_a_file_that_decodes_to_the_image(channels: int) -> None:
    image = noise(0, 256, (1, channels, 9, 4))
    file = io.BytesIO()
    plain = image[0, 0] if channels == 1 else image[0].transpose(1, 2, 0)
    Image.fromarray(plain).save(file, format="PNG", optimize=True, compress_level=9)
    assert score("png-length", image)[0] == len(file.getvalue())
    np.testing.assert_array_equal(np.asarray(Image.open(file)), plain)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("mean-intensity", noise(0, 100), noise(60, 160)),
        ("pixel-variance", noise(100, 130), noise(60, 170)),
        ("png-length", noise(128, 130), noise(0, 256)),
    ],
)
def test_higher_is_more_out_of_distribution(name: str, low: np.ndarray, high: np.ndarray) -> None:
    assert auroc(score(name, low), score(name, high)) > 0.99


@pytest.mark.parametrize("name", TRIVIAL)
def test_no_seed_and_no_other_image_matters(name: str) -> None:
    assert is_deterministic(DETECTORS.get(name))
    images = noise(0, 256)
    np.testing.assert_array_equal(score(name, images)[5:8], score(name, images[5:8]))
