"""Input complexity: how much longer a model's code is than a compressor's.

Serrà, Álvarez, Gómez, Slizovskaia, Núñez, Luque, ICLR 2020 (arXiv 1909.11480):
    S(x) = −log2 p(x) − L(x),  both in bits, higher = more OOD,
with L(x) the shortest of several lossless codes of the 8-bit image: PNG (zlib level 9), WebP and
JPEG 2000 (reversible, bare codestream).  A container's header has one length for images of one
size and so cancels in every ranking.  Names and versions of the compressors are part of the cache
key, since they move the score.
Cost per image: what the model's likelihood costs, and three compressions on the CPU.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.density import DensityDetector
from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detect.detector import Statistics, register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.seeding import KeyedNoise

#: WebP's method 2 takes 0.7 ms for a CIFAR-10 image where method 6 takes 42; its codes of training
#: images are 3 % shorter there and 1.5 % longer on FashionMNIST.
COMPRESSORS: dict[str, tuple[str, dict[str, object]]] = {
    "png": ("PNG", {"optimize": True, "compress_level": 9}),
    "webp": ("WEBP", {"lossless": True, "quality": 100, "method": 2}),
    "jpeg2000": ("JPEG2000", {"irreversible": False, "no_jp2": True}),
}


def compressor_versions() -> dict[str, JSON]:
    """Version of every library that a code length depends on."""
    from PIL import __version__, features

    found: dict[str, JSON] = {"pillow": __version__}
    for name, feature in (("zlib", "zlib"), ("webp", "webp"), ("jpeg2000", "jpg_2000")):
        version = features.version(feature)
        found[name] = None if version is None else str(version)
    return found


def code_lengths(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Bits (B,) float64 of every lossless code of uint8 images (B, C, H, W), C = 1 or 3."""
    import torch
    from PIL import Image

    lengths: dict[str, list[int]] = {name: [] for name in COMPRESSORS}
    for image in images.cpu().numpy():
        pixels = Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0))
        for name, (container, options) in COMPRESSORS.items():
            file = io.BytesIO()
            pixels.save(file, format=container, **options)
            lengths[name].append(8 * file.getbuffer().nbytes)
    return {name: torch.tensor(bits, dtype=torch.float64) for name, bits in lengths.items()}


def complexity_score(log_prob: np.ndarray, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
    """S(x) (N,) from log p(x) in nats and the lengths in bits."""
    import numpy as np

    shortest = np.min([statistics[name] for name in COMPRESSORS], axis=0)
    return np.asarray(-log_prob / math.log(2.0) - shortest)


class InputComplexity(DensityDetector):
    """S(x) with the likelihood of the recipe's model."""

    revision = 2
    score_patterns = ("S",)
    cost = "f + compression"

    def environment(self) -> dict[str, JSON]:
        """The compressors."""
        return compressor_versions()

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_prob in nats, and the bits of every code."""
        return {**super().measure(images, noise), **code_lengths(images)}

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """S alone."""
        return {"S": complexity_score(statistics["log_prob"], statistics)}

    def score_names(self) -> list[str]:
        """S alone."""
        return ["S"]


@register("input-complexity-glow", category="prior", cite="arXiv 1909.11480", title="IC (Glow)")
class InputComplexityGlow(InputComplexity):
    """With Glow's likelihood; its fit is the one of the detector `glow`."""

    recipe_variant = "glow"


@register("input-complexity-pixelcnn", category="prior", cite="arXiv 1909.11480",
          title="IC (PC++)")  # fmt: skip
class InputComplexityPixelCNN(InputComplexity):
    """With the likelihood of PixelCNN++; its fit is the one of the detector `pixelcnn`."""

    recipe_variant = "pixelcnn"


@register("input-complexity-hvae", category="prior", cite="arXiv 1909.11480", title="IC (HVAE)")
class InputComplexityHVAE(HierarchicalVAE):
    """S(x) with the bound of the HVAE trained on the plain ELBO; its fit is shared."""

    revision = 2
    recipe_variant = "vanilla"
    measure_name = "input-complexity-hvae"
    score_patterns = ("S",)
    cost = "e + L·g + compression"

    def environment(self) -> dict[str, JSON]:
        """The compressors."""
        return compressor_versions()

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
        """What the HVAE measures, and the bits of every code."""
        measured = super().measure(images, noise)
        return Statistics({**measured, **code_lengths(images)}, measured.totals)

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """S alone."""
        return {"S": complexity_score(statistics["elbo"], statistics)}

    def score_names(self) -> list[str]:
        """S alone."""
        return ["S"]
