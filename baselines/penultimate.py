"""What the detectors share that score the features which the classifier's last layer reads.

Statistics of N images: logits (N, K), features (N, D).  Their scores send features through the last
layer again, so that they need its weights beside the statistics.  Cost per image: one forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oodbench.baselines.classifier import ClassifierDetector

if TYPE_CHECKING:
    import torch


class PenultimateDetector(ClassifierDetector):
    """A score of the features of the last stage."""

    measure_name = "classifier-penultimate"
    scores_with_models = True

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K) and features (B, D)."""
        from oodbench.models.classifiers.image_classifier import scaled

        features = self.model.features(scaled(images))[-1]
        return {"logits": self.model.head(features), "features": features}

    def last_layer(self) -> tuple[torch.Tensor, torch.Tensor]:
        """W (K, D) and b (K,) of the last layer, float64 on the CPU."""
        head = self.model.head
        return head.weight.detach().double().cpu(), head.bias.detach().double().cpu()

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of features (B, D), float64."""
        weight, bias = self.last_layer()
        return features @ weight.T + bias
