"""Typicality: the distance of an image's likelihood from that of typical training images.

Nalisnick, Matsukawa, Teh, Lakshminarayanan 2019 (arXiv 1906.02994), with groups of one image: with
H the mean of −log p over the training images (of more than 10,000, or `measure.max_images`, a
seeded subset), in nats,
    score(x) = |−log p(x) − H|,  higher = more OOD.
Two-sided: an image whose likelihood is too high is found as well.
Cost per image: one forward pass; H costs one pass over the subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.density import DensityDetector
from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detect.detector import Detector, register

if TYPE_CHECKING:
    import numpy as np


class _Typicality(Detector):
    """The score on the statistic named `log_likelihood`."""

    log_likelihood: ClassVar[str] = "log_prob"
    score_patterns: ClassVar[Sequence[str]] = ("typicality",)

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """H from the training images."""
        self.entropy = float(-statistics[self.log_likelihood].mean())

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """|−log p(x) − H|."""
        return {"typicality": abs(-statistics[self.log_likelihood] - self.entropy)}

    def score_names(self) -> list[str]:
        """The one score."""
        return ["typicality"]


@register("typicality-glow", cite="arXiv 1906.02994", title="Typicality (Glow)")
class TypicalityGlow(_Typicality, DensityDetector):
    """With Glow's likelihood; its fit and measurement are those of `glow`."""

    recipe_variant = "glow"
    measure_name = "density"


@register("typicality-pixelcnn", cite="arXiv 1906.02994", title="Typicality (PC++)")
class TypicalityPixelCNN(_Typicality, DensityDetector):
    """With the likelihood of PixelCNN++; its fit and measurement are those of `pixelcnn`."""

    recipe_variant = "pixelcnn"
    measure_name = "density"


@register("typicality-hvae", cite="arXiv 1906.02994", title="Typicality (HVAE)")
class TypicalityHVAE(_Typicality, HierarchicalVAE):
    """With the bound of the HVAE trained on the plain ELBO; shares its fit and measurement."""

    recipe_variant = "vanilla"
    log_likelihood = "elbo"
