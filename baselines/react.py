"""ReAct: the energy after large activations are cut off.

Sun, Guo, Li, NeurIPS 2021 (arXiv 2111.12797): features are clipped at c, the 90th percentile
of all activations on training images, and go through the last layer again:
    score = −logsumexp_y (W min(h, c) + b)_y,   higher = more OOD.
Of more than 10,000 training images (or `measure.max_images`) a seeded subset.  Computed by
pytorch-ood, in float64.  Cost per image: one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST
from oodbench.baselines.penultimate import PenultimateDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np

PERCENTILE = 0.9


@register("react", category="labels", cite="arXiv 2111.12797", title="ReAct")
class RectifiedActivations(PenultimateDetector):
    """Energy of clipped features."""

    unoriented = GROWS_WITH_CONTRAST

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Take the percentile of the training images' activations."""
        import torch
        from pytorch_ood.detector import ReAct

        known = torch.tensor(statistics["features"])
        self.clipped = ReAct(None, self.head, percentile=PERCENTILE)
        # It leaves out images with negative labels, and has no other use for them.
        self.clipped.fit_feature_maps(known, torch.zeros(len(known)))

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """−logsumexp of the logits of clipped features."""
        import torch

        features = torch.tensor(statistics["features"])
        found: np.ndarray = self.clipped.predict_feature_maps(features).numpy()
        return found
