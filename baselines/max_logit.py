"""MaxLogit: the largest logit.

Hendrycks et al., ICML 2022 (arXiv 1911.11132).  Score = −max_y f_y(x), higher = more OOD; computed
by pytorch-ood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np


@register("max-logit", category="labels", cite="arXiv 1911.11132", title="MaxLogit")
class MaxLogit(ClassifierDetector):
    """−max of the logits."""

    unoriented = GROWS_WITH_CONTRAST

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """−max_y f_y(x)."""
        import torch
        from pytorch_ood.detector import MaxLogit as Library

        found: np.ndarray = Library.score(torch.tensor(statistics["logits"])).numpy()
        return found
