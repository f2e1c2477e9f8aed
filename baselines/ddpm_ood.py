"""DDPM-OOD: how far reconstructions from several noise levels are from the image.

Graham, Pinaya, Tudosiu, Nachev, Ourselin, Cardoso 2023, "Denoising Diffusion Models for
Out-of-Distribution Detection" (CVPR workshops, arXiv 2211.07740).  Noise is added up to a time
t_k, the diffusion model takes it away again by deterministic steps, and every distance d of the
reconstruction is standardised on ID images:
    score(x) = mean over k and d of (d_k(x) − m_dk) / s_dk
higher = more OOD.  Stated: several starts, standardising on ID validation images, the mean.  Read
in the public code (marksgraham/ddpm-ood): 100 steps of PLMS, a start at every fourth, 25 in all;
MSE and LPIPS.  Ours: DDIM on a grid of 20 steps with 6 starts, m and s over a seeded subset of
the training images, and SSIM in the place of LPIPS (`oodbench.baselines.denoising`), which no
network was trained for; it sees less of what people see.
Cost per image: 69 forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.denoising import (
    CONTRAST,
    DenoisingDetector,
    Standardised,
    dissimilarity,
    mean_squares,
)
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.seeding import KeyedNoise

STEPS = 20
STARTS = (3, 6, 9, 12, 15, 18)
DISTANCES = ("mse", "ssim")


@register("ddpm-ood", cite="arXiv 2211.07740", title="DDPM-OOD")
class DDPMOOD(DenoisingDetector):
    """Standardised reconstruction errors, and of either distance alone."""

    measure_name = "ddpm-ood"
    revision = 2
    cost = "69 f"
    score_patterns: ClassVar[Sequence[str]] = ("MSE+SSIM", "MSE", "SSIM")
    unoriented: ClassVar[Mapping[str, str]] = {"SSIM": CONTRAST}

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """mse and ssim (B, starts)."""
        import torch

        from oodbench.models.denoising.diffusion import scaled

        x, grid = scaled(images), self.model.schedule.grid(STEPS)
        z, shape = x[:0], tuple(x.shape[1:])
        # From the highest start down: every step takes those that began above it together.
        for start, below in zip(STARTS[::-1], (*STARTS[-2::-1], 0), strict=True):
            eps = noise.normal(f"start {start}", shape)
            z = torch.cat([self.model.diffuse(x, eps, self.model.level(grid[start], x)), z])
            z = self.model.walk(z, grid[below : start + 1][::-1])
        again = self.model.clean(z, grid[0])
        held = x.repeat(len(STARTS), 1, 1, 1)
        found = {"mse": mean_squares(again, held), "ssim": dissimilarity(again, held)}
        return {name: values.view(len(STARTS), -1).T for name, values in found.items()}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Means and standard deviations of every start and distance."""
        self.standard = Standardised(statistics, DISTANCES)

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The mean of both distances, then either."""
        mse, ssim = (self.standard(statistics, name).mean(1) for name in DISTANCES)
        return {"MSE+SSIM": (mse + ssim) / 2, "MSE": mse, "SSIM": ssim}

    def score_names(self) -> list[str]:
        """Both first."""
        return ["MSE+SSIM", "MSE", "SSIM"]
