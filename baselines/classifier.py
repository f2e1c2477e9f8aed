"""Detectors on a classifier of the ID classes: what they measure, and how good the classifier is.

Statistics of N images: logits (N, K).  Cost per image: one forward pass.  Detectors that read only
the logits of one fit share its measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.detect.detector import Detector

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.models.classifiers.image_classifier import ImageClassifier


#: `Detector.unoriented` of a score that says how sure the classifier is.
GROWS_WITH_CONTRAST: Mapping[str, str] = {
    "*": "features grow with contrast, and with them how sure a classifier is, whatever it"
    " learned; digits against photographs settle the sign"
}


class ClassifierDetector(Detector):
    """A score of a classifier's logits."""

    category = "labels"
    recipe_variant = "classifier"
    measure_name = "classifier"
    cost = "f"
    diagnose_training = False

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the classifier."""
        self.model = cast("ImageClassifier", models[0])

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K)."""
        return {"logits": self.model.logits(images)}

    def probabilities(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """p(y|x) (N, K) of the ID classes, as the diagnosis judges it."""
        from oodbench.baselines.softmax_scores import softmax

        return softmax(statistics["logits"])

    def diagnose(
        self,
        statistics: Mapping[str, np.ndarray],
        totals: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
    ) -> dict[str, JSON]:
        """Accuracy and calibration error on ID images; nothing where labels are unknown."""
        if "label" not in statistics:
            return {}
        from oodbench.baselines.softmax_scores import calibration_error

        labels, probabilities = statistics["label"], self.probabilities(statistics)
        return {
            "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
            "calibration_error": calibration_error(probabilities, labels),
            "images": len(labels),
        }
