"""CP(Ent): the entropy of the predicted distribution.

The second baseline of Ren et al. 2019 (arXiv 1906.02845) on a classifier as in Hendrycks, Gimpel
2017.  Score = −Σ_y p(y|x) log p(y|x), nats, higher = more OOD.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from oodbench.baselines.classifier import ClassifierDetector, log_softmax
from oodbench.detector import register


@register("entropy-softmax", category="labels", cite="arXiv 1906.02845", title="CP (Ent)")
class SoftmaxEntropy(ClassifierDetector):
    """H(p(y|x))."""

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """Entropy in nats."""
        log_p = log_softmax(statistics["logits"])
        return np.asarray(-(np.exp(log_p) * log_p).sum(axis=1))
