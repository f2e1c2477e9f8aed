"""ASH-S: the energy after most activations are removed and the others scaled up.

Djurisic, Bozanic, Ashok, Liu, ICLR 2023 (arXiv 2209.09858): of an image's D activations h the
smallest 90 % become 0 and the others h · exp(s₁/s₂), with s₁ and s₂ the sums before and after the
removal; they go through the last layer again:
    score = −logsumexp_y (W ASH(h) + b)_y,   higher = more OOD.
The authors' code shapes what is left after average pooling, and takes 90 % for a ResNet-34 on
CIFAR-10; so do we, on every network.  Of an image without activations nothing is left to scale: its
logits are b.
Computed by pytorch-ood, in float64.  Cost per image: one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST
from oodbench.baselines.penultimate import PenultimateDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

REMOVED = 0.9


@register("ash", category="labels", cite="arXiv 2209.09858", title="ASH-S")
class ActivationShaping(PenultimateDetector):
    """Energy of shaped features."""

    unoriented = GROWS_WITH_CONTRAST

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """−logsumexp of the logits of shaped features."""
        import torch
        from pytorch_ood.detector import ASH

        shaping = ASH(None, self._head_of_maps, variant="ash-s", percentile=REMOVED)
        maps = torch.tensor(statistics["features"])[:, :, None, None]
        found: np.ndarray = shaping.predict_feature_maps(maps).numpy()
        return found

    def _head_of_maps(self, maps: torch.Tensor) -> torch.Tensor:
        # s₁/s₂ is 0/0 without activations.
        return self.head(maps.flatten(1).nan_to_num(nan=0.0))
