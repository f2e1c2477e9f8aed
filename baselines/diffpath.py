"""DiffPath: the path of an image to noise, by its direction and how that changes.

Heng, Thiery, Soh, NeurIPS 2024, "Out-of-Distribution Detection with a Single Unconditional
Diffusion Model" (arXiv 2405.11881).  DDIM leads x up to noise in n steps; with ε_i the
predictions on the way and ε'_i = n (ε_(i+1) − ε_i) their differences,
    6D   Σ ε, Σ ε², Σ ε³, Σ ε', Σ ε'², Σ ε'³, over all; score −log of a Gaussian mixture
    1D   (Σ ε'²)^½; score −log of a kernel density
fitted on ID training images; higher = more OOD.  Stated: the statistics, 10 steps, a mixture for
the six and a kernel density for the one.  Read in the public code (clear-nus/diffpath):
standardised statistics, mixtures of 50 or 100 components with any form of covariance, chosen by
cross-validated ID likelihood.  The paper's one model was trained on CelebA or ImageNet and serves
every ID set, of which only the mixture is fitted; Table 4 has the model of the ID set beside them,
which is the one here, or any other by `--recipe`; ours is the choice of 1 to 20 components with
full covariances by BIC, for smaller training sets.
Cost per image: 10 forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.denoising import DenoisingDetector, Standardised
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch


STEPS = 10
COMPONENTS = (1, 2, 5, 10, 20)
#: Training images that a component needs.
PER_COMPONENT = 50
REGULARISED = 1e-4


@register("diffpath", cite="arXiv 2405.11881", title="DiffPath")
class DiffPath(DenoisingDetector):
    """The six statistics, and the one."""

    measure_name = "diffpath"
    cost = "10 f"
    score_patterns: ClassVar[Sequence[str]] = ("6D", "1D")

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """path (B, 6), per pixel and step."""
        import torch

        from oodbench.models.denoising.diffusion import scaled

        z, grid = scaled(images), self.model.schedule.grid(STEPS)
        seen: list[torch.Tensor] = []
        for gamma, to in pairwise(grid):
            eps = self.model.predict(z, self.model.level(gamma, z))
            seen.append(eps)
            z = self.model.step(z, gamma, to, eps, None)
        values = torch.stack(seen, dim=1).double()
        changes = STEPS * values.diff(dim=1)
        powers = [(x**n).flatten(1).mean(1) for x in (values, changes) for n in (1, 2, 3)]
        return {"path": torch.stack(powers, dim=1)}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """The mixture of the six, and the kernel density of the one."""
        from sklearn.mixture import GaussianMixture

        from oodbench.baselines.dose import KernelDensity

        self.standard = Standardised(statistics, ("path",))
        values = self.standard(statistics, "path")
        most = max(1, len(values) // PER_COMPONENT)
        fitted = [
            GaussianMixture(n, random_state=0, reg_covar=REGULARISED).fit(values)
            for n in COMPONENTS if n <= most
        ]  # fmt: skip
        self.mixture = min(fitted, key=lambda mixture: float(mixture.bic(values)))
        roots = statistics["path"][:, 4] ** 0.5
        self.centre, self.spread = float(roots.mean()), float(roots.std()) or 1.0
        self.density = KernelDensity((roots - self.centre) / self.spread)

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """−log density of either."""
        six = self.mixture.score_samples(self.standard(statistics, "path"))
        root = (statistics["path"][:, 4] ** 0.5 - self.centre) / self.spread
        return {"6D": -six, "1D": -self.density(root)}

    def score_names(self) -> list[str]:
        """Six first."""
        return ["6D", "1D"]
