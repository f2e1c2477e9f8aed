"""DE: the averaged prediction of classifiers that differ in seed and order of the data.

Lakshminarayanan, Pritzel, Blundell, NeurIPS 2017 (arXiv 1612.01474), without adversarial training.
Score = 1 − max_y of the mean probability, higher = more OOD.  The recipe says how many members;
their fits are those that `max-softmax` and the other detectors on the recipe use.
Cost per image: a forward pass of every member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.models.classifiers.image_classifier import ImageClassifier


@register("deep-ensemble", category="labels", cite="arXiv 1612.01474", title="DE")
class DeepEnsemble(ClassifierDetector):
    """1 − max_y of the mean probability."""

    revision = 2
    measure_revision = 1
    unoriented = GROWS_WITH_CONTRAST
    recipe_variant = "classifier-ensemble"
    measure_name = "deep-ensemble"
    cost = "M f"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the members."""
        self.models = [cast("ImageClassifier", model) for model in models]

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """probability (B, K): the mean of p(y|x) over the members."""
        import torch

        each = [model.logits(images).double().softmax(1) for model in self.models]
        return {"probability": torch.stack(each).mean(0)}

    def probabilities(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean of the members' probabilities."""
        return statistics["probability"]

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """1 − max_y of the mean probability: the sum of the others, which near certainty is not
        rounded to 0."""
        import numpy as np

        others = np.sort(statistics["probability"], axis=1)[:, :-1]
        return np.asarray(others.sum(axis=1))
