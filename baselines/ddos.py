"""DDOS: an image is partly diffused and denoised; OOD images do not come back.

Raya, Olier Jauregui, Postma 2022, "Diffusing and denoising samples for out-of-distribution
detection" (openreview eATJn1VZQia).  With z = α x + σ ε at one level of noise, and x̂ what the
reverse diffusion (a stochastic one) makes of it,
    score(x) = mean of (x̂ − x)²,  higher = more OOD.
Stated in the authors' account of it: partial diffusion, the reverse SDE, the reconstruction error
(AUROC 0.98 on FashionMNIST against MNIST).  Ours: the level is the middle of the schedule, t = ½,
where α = σ under the cosine one, and 10 ancestral steps lead back (there a variance-exploding SDE
and Euler–Maruyama with Langevin corrections); no score chose them.
Cost per image: 11 forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.denoising import DenoisingDetector, mean_squares
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.seeding import KeyedNoise

STEPS = 10
HALF = 0.5


@register("ddos", cite="Raya et al. 2022, openreview eATJn1VZQia", title="DDOS")
class DDOS(DenoisingDetector):
    """The error of one stochastic reconstruction."""

    measure_name = "ddos"
    cost = "11 f"

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """error (B,)."""
        from oodbench.models.denoising.diffusion import scaled

        x, grid = scaled(images), self.model.schedule.grid(STEPS, HALF)[::-1]
        eps = noise.normal("up", tuple(x.shape[1:]))
        z = self.model.diffuse(x, eps, self.model.level(grid[0], x))
        z = self.model.walk(z, grid, noise.scope("down"))
        return {"error": mean_squares(self.model.clean(z, grid[-1]), x)}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """The error itself."""
        return statistics["error"]
