"""KNN: the distance to the k-th nearest training image, in the classifier's features.

Sun, Ming, Zhu, Li, ICML 2022 (arXiv 2204.06507): Euclidean distance of features scaled to length 1,
k = 50; higher = more OOD.  Of more than 10,000 training images (or `measure.max_images`) a seeded
subset; with fewer than k of them k is their number.  pytorch-ood searches.
Cost per image: one forward pass and a search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

NEIGHBOURS = 50


@register("knn", category="labels", cite="arXiv 2204.06507", title="KNN")
class NearestNeighbours(ClassifierDetector):
    """Distance to the 50th nearest training image."""

    measure_name = "classifier-features"

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K) and features (B, D) of length 1."""
        from torch.nn import functional as F

        from oodbench.models.classifiers.image_classifier import scaled

        features = self.model.features(scaled(images))[-1]
        return {"logits": self.model.head(features), "features": F.normalize(features.double())}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Keep the features of the training images."""
        import torch
        from pytorch_ood.detector import KNN

        known = torch.tensor(statistics["features"])
        self.search = KNN(None, min(NEIGHBOURS, len(known)), normalize=False)
        # It leaves out images with negative labels, and has no other use for them.
        self.search.fit_features(known, torch.zeros(len(known)))

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """Distance to the k-th nearest."""
        import torch

        features = torch.tensor(statistics["features"])
        nearest: np.ndarray = self.search.predict_features(features).numpy()
        return nearest
