"""GradNorm: how large the gradient of the distance to a uniform prediction is.

Huang, Geng, Li, NeurIPS 2021 (arXiv 2110.00218): the L1 norm of ∂ KL(u ‖ p(y|x)) / ∂W, W the
weights of the last layer, is small for OOD images.  With features h and K classes it has the closed
form
    ‖h‖₁ · Σ_y |p(y|x) − 1/K|;   score = −that, higher = more OOD.
Cost per image: one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch


@register("grad-norm", category="labels", cite="arXiv 2110.00218", title="GradNorm")
class GradNorm(ClassifierDetector):
    """− L1 norm of the gradient in the last layer's weights."""

    unoriented = GROWS_WITH_CONTRAST
    measure_name = "grad-norm"

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K) and `size` (B,), the L1 norm of the features."""
        from oodbench.models.classifiers.image_classifier import scaled

        features = self.model.features(scaled(images))[-1]
        return {"logits": self.model.head(features), "size": features.double().abs().sum(1)}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """−‖h‖₁ · Σ_y |p(y|x) − 1/K|."""
        from oodbench.baselines.softmax_scores import softmax

        p = softmax(statistics["logits"])
        norm: np.ndarray = abs(p - 1.0 / p.shape[1]).sum(axis=1) * statistics["size"]
        return -norm
