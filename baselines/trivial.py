"""Trivial detectors that every honest table needs: no training, one number of the pixels.

A method that does not beat them on a pair has shown nothing on that pair.  Their sign is fixed
beforehand: brighter, more varied and longer to compress count as more OOD, whatever scores better.
Cost per image: no pass through any network.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.detect.detector import Detector, register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.seeding import KeyedNoise


class _OneNumber(Detector):
    """The statistic is the score."""

    cost = "0"

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """The value itself."""
        return statistics["value"]


@register("mean-intensity", cite="trivial", title="Mean intensity")
class MeanIntensity(_OneNumber):
    """Mean pixel value of the image, 0 … 255."""

    one_sided = "more bright"

    def measure(
        self, images: torch.Tensor, noise: KeyedNoise | None = None
    ) -> dict[str, torch.Tensor]:
        """(B,) means."""
        return {"value": images.double().flatten(1).mean(1)}


@register("pixel-variance", cite="trivial", title="Pixel variance")
class PixelVariance(_OneNumber):
    """Variance of the image's pixel values around its own mean."""

    one_sided = "more varied"

    def measure(
        self, images: torch.Tensor, noise: KeyedNoise | None = None
    ) -> dict[str, torch.Tensor]:
        """(B,) variances."""
        return {"value": images.double().flatten(1).var(1, unbiased=False)}


@register("png-length", cite="trivial; see Serrà et al. 2020", title="PNG length")
class PNGLength(_OneNumber):
    """Bytes of the image as an optimised PNG (zlib level 9): its complexity."""

    one_sided = "more complex"

    def measure(
        self, images: torch.Tensor, noise: KeyedNoise | None = None
    ) -> dict[str, torch.Tensor]:
        """(B,) lengths in bytes."""
        import torch
        from PIL import Image

        lengths = []
        for image in images.cpu().numpy():
            pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, format="PNG", optimize=True, compress_level=9)
            lengths.append(file.getbuffer().nbytes)
        return {"value": torch.tensor(lengths, dtype=torch.float64)}
