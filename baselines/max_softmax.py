"""CP: the probability of the predicted class.

Hendrycks, Gimpel, ICLR 2017 (arXiv 1610.02136).  Score = 1 − max_y p(y|x), higher = more OOD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np


@register("max-softmax", category="labels", cite="arXiv 1610.02136", title="CP")
class MaxSoftmax(ClassifierDetector):
    """1 − max_y p(y|x)."""

    unoriented = GROWS_WITH_CONTRAST

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """1 − max_y p(y|x)."""
        from oodbench.baselines.softmax_scores import doubt

        return doubt(statistics["logits"])
