"""CP(Ent): the entropy of the predicted distribution.

The second baseline of Ren et al. 2019 (arXiv 1906.02845) on a classifier as in Hendrycks, Gimpel
2017.  Score = −Σ_y p(y|x) log p(y|x), nats, higher = more OOD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np


@register("entropy-softmax", category="labels", cite="arXiv 1906.02845", title="CP (Ent)")
class SoftmaxEntropy(ClassifierDetector):
    """H(p(y|x))."""

    unoriented = GROWS_WITH_CONTRAST

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """Entropy in nats."""
        import numpy as np

        from oodbench.baselines.softmax_scores import log_softmax

        log_p = log_softmax(statistics["logits"])
        return np.asarray(-(np.exp(log_p) * log_p).sum(axis=1))
