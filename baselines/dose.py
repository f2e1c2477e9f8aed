"""DoSE: density of states estimation on several statistics of a model.

Morningstar, Ham, Gallagher, Lakshminarayanan, Alemi, Dillon, AISTATS 2021 (arXiv 2006.09273).
Statistics T(x) of the HVAE trained on the plain ELBO, each standardised on a seeded subset of the
training images: the bound L, the reconstruction NLL_0, and KL_l of every layer.
    KDE:  score(x) = −Σ_j log p_j(T_j(x)), p_j a Gaussian kernel density with Scott's bandwidth
    SVM:  score(x) = −log Σ_i α_i k(T_i, T(x)) of a one-class SVM on T with the kernel k
which ranks as the SVM's negated decision value ρ − Σ_i α_i k does; that one rounds to ρ for all
images that are far from every training image, its logarithm goes on.
Higher = more OOD.  Cost per image: the model's measurement; nothing but score functions is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.hvae import HierarchicalVAE
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np

GRID = 4096
#: Beyond this many bandwidths from every training value the density underflows; its tail is kept
#: as the parabola of the nearest kernel, so that far images stay ordered.
TAIL = 4.0
#: Numbers of a block of distances.
ELEMENTS = 4_000_000


def features(statistics: Mapping[str, np.ndarray]) -> np.ndarray:
    """T (N, J): L, NLL_0 and KL_1 … KL_L, nats."""
    import numpy as np

    return np.column_stack([statistics["elbo"], statistics["nll"][:, 0], statistics["kl_0"]])


class KernelDensity:
    """log-density of one standardised statistic: Gaussian kernels, Scott's bandwidth.

    Evaluated on a grid and interpolated within the range of the training values (± TAIL
    bandwidths); outside, the nearest extreme value's own kernel goes on.
    """

    def __init__(self, values: np.ndarray) -> None:
        import numpy as np
        from scipy.special import logsumexp
        from scipy.stats import gaussian_kde

        kde = gaussian_kde(values, bw_method="scott")
        self.width = float(np.sqrt(kde.covariance[0, 0]))
        self.low, self.high = float(values.min()), float(values.max())
        self.grid = np.linspace(
            self.low - TAIL * self.width, self.high + TAIL * self.width, GRID
        )  # fmt: skip
        constant = np.log(len(values) * self.width * np.sqrt(2 * np.pi))
        self.log_density = np.concatenate([
            logsumexp(-0.5 * ((part[:, None] - values[None, :]) / self.width) ** 2, axis=1)
            for part in np.array_split(self.grid, 64)
        ]) - constant  # fmt: skip

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N,) log p."""
        import numpy as np

        inside = np.interp(values, self.grid, self.log_density)
        over = np.maximum(values - self.grid[-1], 0.0) + np.maximum(self.grid[0] - values, 0.0)
        distance = TAIL * self.width + over
        drop = 0.5 * (distance**2 - (TAIL * self.width) ** 2) / self.width**2
        return np.asarray(inside - np.where(over > 0, drop, 0.0))


class SupportDensity:
    """log Σ_i α_i exp(−γ ‖x_i − x‖²) over the support vectors x_i of a one-class SVM.

    γ = 1 / (J · variance of all values), scikit-learn's "scale".
    """

    def __init__(self, values: np.ndarray, nu: float = 0.5) -> None:
        import numpy as np
        from sklearn.svm import OneClassSVM

        self.gamma = 1.0 / (values.shape[1] * (values.var() or 1.0))
        svm = OneClassSVM(kernel="rbf", gamma=self.gamma, nu=nu).fit(values)
        self.support, self.log_weights = svm.support_vectors_, np.log(svm.dual_coef_[0])

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """(N,) of values (N, J)."""
        import numpy as np
        from scipy.spatial.distance import cdist
        from scipy.special import logsumexp

        parts = np.array_split(values, max(1, len(values) * len(self.support) // ELEMENTS))
        return np.concatenate([
            logsumexp(self.log_weights - self.gamma * cdist(p, self.support, "sqeuclidean"), axis=1)
            for p in parts
        ])  # fmt: skip


@register("dose-hvae", cite="arXiv 2006.09273", title="DoSE (HVAE)")
class DoSE(HierarchicalVAE):
    """Both forms on the vanilla HVAE, whose fit and measurement are shared."""

    revision = 2
    measure_revision = 1
    recipe_variant = "vanilla"
    score_patterns = ("DoSE-KDE", "DoSE-SVM")

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Standardise, fit a density to each statistic and a one-class SVM to all."""
        raw = features(statistics)
        self.mean, self.spread = raw.mean(axis=0), raw.std(axis=0)
        self.spread[self.spread == 0] = 1.0
        standard = (raw - self.mean) / self.spread
        self.densities = [KernelDensity(column) for column in standard.T if column.std() > 0]
        self.varying = standard.std(axis=0) > 0
        self.support = SupportDensity(standard)

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """DoSE-KDE and DoSE-SVM."""
        import numpy as np

        standard = (features(statistics) - self.mean) / self.spread
        columns = standard[:, self.varying].T
        terms = [density(c) for density, c in zip(self.densities, columns, strict=True)]
        return {
            "DoSE-KDE": -np.sum(terms, axis=0),
            "DoSE-SVM": -self.support(standard),
        }

    def score_names(self) -> list[str]:
        """The two."""
        return ["DoSE-KDE", "DoSE-SVM"]
