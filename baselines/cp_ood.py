"""CP(OOD): a classifier with one class more, learned from outliers.

A baseline of Ren et al. 2019 (arXiv 1906.02845).  Score = p(y = K+1|x), higher = more OOD.
Category prior, where Li et al. 2022 print it; the recipe says what the outliers are.
Cost per image: one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np


@register("cp-ood", category="prior", cite="arXiv 1906.02845", title="CP (OOD)")
class OutlierClass(ClassifierDetector):
    """The probability of the outlier class, the last one."""

    recipe_variant = "cp-ood"

    def probabilities(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """p(y|x) among the ID classes."""
        from oodbench.baselines.softmax_scores import softmax

        return softmax(statistics["logits"][:, :-1])

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """log p(K+1|x) − log p(1 … K|x): the log-odds, which rank as the probability does."""
        import numpy as np

        from oodbench.baselines.softmax_scores import log_softmax

        log_p = log_softmax(statistics["logits"])
        return np.asarray(log_p[:, -1] - np.logaddexp.reduce(log_p[:, :-1], axis=1))
