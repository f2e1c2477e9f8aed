"""EN: the energy of the logits.

Liu, Wang, Owens, Li, NeurIPS 2020 (arXiv 2010.03759), Eq. 4 with T = 1, without the fine-tuning on
outliers.  Score = −logsumexp_y f_y(x), higher = more OOD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import ClassifierDetector
from oodbench.detector import register

if TYPE_CHECKING:
    import numpy as np


@register("energy", category="labels", cite="arXiv 2010.03759", title="EN")
class Energy(ClassifierDetector):
    """−logsumexp of the logits."""

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """−logsumexp_y f_y(x)."""
        import numpy as np

        return np.asarray(-np.logaddexp.reduce(statistics["logits"], axis=1))
