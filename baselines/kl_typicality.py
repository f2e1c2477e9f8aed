"""KL typicality: the information of every layer, two-sided, against that of training images.

Ours, of no paper; beside `KL<=L` of Li et al. (NeurIPS 2022): the sum of the KL terms of a
hierarchical VAE is large where an image asks for latents that the prior does not expect.  Where OOD
images are simpler than the training images it is small, and the sum is reversed; what is far from
typical on either side is found by, with KL_l of layer l in nats, m its mean over the training
images, s its standard deviation,
    KL typicality   |Σ_l KL_l − m(Σ_l KL_l)|
    KL layers       Σ_l ((KL_l − m_l) / s_l)²
higher = more OOD.  The measurement is that of `informative-hvae`.
Cost per image: as `oodbench.baselines.hvae`; m and s cost one pass over the training images, of
more than 10,000, or `measure.max_images`, over a seeded subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np

#: A layer whose KL hardly varies over the training images says nothing; nats.
LEAST_SPREAD = 1e-6


@register(
    "kl-typicality",
    cite="ours; beside Li et al., NeurIPS 2022",
    title="KL typicality (informative HVAE)",
)
class KLTypicality(HierarchicalVAE):
    """On the informative HVAE; its fit and measurement are those of `informative-hvae`."""

    recipe_variant = "informative"
    score_patterns: ClassVar[Sequence[str]] = ("KL typicality", "KL layers")
    unoriented: ClassVar[Mapping[str, str]] = {}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Means and standard deviations of the training images."""
        kl = statistics["kl_0"]
        self.total = float(kl.sum(1).mean())
        self.mean = kl.mean(0)
        self.spread = kl.std(0).clip(min=LEAST_SPREAD)

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The distance of the sum, and of the layers in their own standard deviations."""
        kl = statistics["kl_0"]
        return {
            "KL typicality": abs(kl.sum(1) - self.total),
            "KL layers": (((kl - self.mean) / self.spread) ** 2).sum(1),
        }

    def score_names(self) -> list[str]:
        """The two scores."""
        return ["KL typicality", "KL layers"]
