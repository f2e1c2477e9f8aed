"""EN: the energy of the logits.

Liu, Wang, Owens, Li, NeurIPS 2020 (arXiv 2010.03759), Eq. 4 with T = 1, without the fine-tuning on
outliers.  Score = −logsumexp_y f_y(x), higher = more OOD; computed by pytorch-ood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np


@register("energy", category="labels", cite="arXiv 2010.03759", title="EN")
class Energy(ClassifierDetector):
    """−logsumexp of the logits."""

    unoriented = GROWS_WITH_CONTRAST
    revision = 2
    measure_revision = 1

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """−logsumexp_y f_y(x)."""
        import torch
        from pytorch_ood.detector import EnergyBased

        found: np.ndarray = EnergyBased.score(torch.tensor(statistics["logits"])).numpy()
        return found
