"""ViM: the residual of the features as one more logit.

Wang, Li, Feng, Zhang, CVPR 2022 (arXiv 2203.10807).  With h the features, W and b the last layer,
u = −W⁺b, and R the directions of least second moment of h − u on training images:
    score = α ‖Rᵀ(h − u)‖ − logsumexp_y f_y(x),   higher = more OOD,
which ranks as the virtual logit's probability does; α makes the mean residual on training images
the mean of their largest logit.  Of more than 10,000 training images (or `measure.max_images`) a
seeded subset.  The published dimensions of the principal space, 512 of 768 and 1000 of 2048, are
for wider features: here it has half of their rank, so that units which never fire belong to R.
Cost per image: one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.penultimate import PenultimateDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np

#: Eigenvalues below this share of the largest are rounding.
NEGLIGIBLE = 1e-10


@register("vim", category="labels", cite="arXiv 2203.10807", title="ViM")
class VirtualLogit(PenultimateDetector):
    """Virtual logit less the energy of the others."""

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Learn u, R and α from the training images."""
        import numpy as np

        weight, bias = (part.numpy() for part in self.last_layer())
        self.origin = -np.linalg.pinv(weight) @ bias
        away = statistics["features"] - self.origin
        moments, directions = np.linalg.eigh(away.T @ away / len(away))
        rank = int((moments > NEGLIGIBLE * moments[-1]).sum())
        self.residual = directions[:, : len(moments) - rank // 2]
        largest = statistics["logits"].max(axis=1).mean()
        self.factor = largest / self._residuals(statistics["features"]).mean()

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """α ‖Rᵀ(h − u)‖ − logsumexp of the logits."""
        from scipy.special import logsumexp

        virtual = self.factor * self._residuals(statistics["features"])
        found: np.ndarray = virtual - logsumexp(statistics["logits"], axis=1)
        return found

    def _residuals(self, features: np.ndarray) -> np.ndarray:
        import numpy as np

        return np.asarray(np.linalg.norm((features - self.origin) @ self.residual, axis=1))
