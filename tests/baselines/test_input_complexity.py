"""Input complexity: lossless codes, bits against bits, and the sign."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from oodbench.baselines.input_complexity import (
    COMPRESSORS,
    InputComplexityGlow,
    InputComplexityHVAE,
    code_lengths,
    complexity_score,
)


def images(channels: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (3, channels, 16, 16), dtype=np.uint8)
    flat = np.full((3, channels, 16, 16), 7, dtype=np.uint8)
    return np.concatenate([noise, flat])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(COMPRESSORS))
def test_every_code_is_lossless_and_counted_in_bits(name: str, channels: int) -> None:
    container, options = COMPRESSORS[name]
    for image in images(channels):
        pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format=container, **options)  # type: ignore[arg-type]
        decoded = Image.open(io.BytesIO(file.getvalue())).convert("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(decoded), pixels)
        found = code_lengths(torch.from_numpy(image[None]))[name]
        assert float(found[0]) == 8 * len(file.getvalue())


def test_noise_needs_at_least_its_entropy_and_flat_images_next_to_nothing() -> None:
    lengths = code_lengths(torch.from_numpy(images(1)))
    shortest = torch.stack(list(lengths.values())).min(0).values
    assert (shortest[:3] >= 8 * 256).all()
    assert (shortest[3:] < 8 * 120).all()


def test_score_is_bits_minus_bits() -> None:
    statistics = {"png": np.array([900.0, 100.0]), "webp": np.array([800.0, 120.0]),
                  "jpeg2000": np.array([950.0, 90.0])}  # fmt: skip
    log_prob = -np.array([1000.0, 300.0]) * math.log(2.0)
    np.testing.assert_allclose(complexity_score(log_prob, statistics), [200.0, 210.0])
    # A simple image with the likelihood of a complex one is the more suspicious of the two.
    equal = complexity_score(-np.array([1000.0, 1000.0]), statistics)
    assert equal[1] > equal[0]


@pytest.mark.parametrize("detector", [InputComplexityGlow, InputComplexityHVAE])
def test_versions_of_the_compressors_are_in_the_key(detector: type) -> None:
    found = detector().environment()
    assert set(found) == {"pillow", "zlib", "webp", "jpeg2000"}
    assert all(found.values())
