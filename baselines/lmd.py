"""Lift, map, detect: half of an image is masked and painted anew by the diffusion model.

Liu, Zhou, Wang, Weinberger, ICML 2023, "Unsupervised Out-of-Distribution Detection with Diffusion
Inpainting" (arXiv 2302.10326).  A checkerboard hides half of the cells; reverse diffusion from
noise keeps the visible pixels at what they are with the noise of every level, and fills in the
others:
    score(x) = median over repetitions of the distance of the filled image from x
higher = more OOD.  Stated: the checkerboard of 8×8 cells, the mask and its complement in turn,
several repetitions, a distance (LPIPS).  Read in the public code (zhenzhel/lift_map_detect): 10
repetitions; MSE, SSIM, LPIPS and SimCLR as distances.  Ours: 4 repetitions of 15 ancestral steps,
cells of an eighth of the side (rounded up), MSE and SSIM (`oodbench.baselines.denoising`).
Cost per image: 64 forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.denoising import CONTRAST, DenoisingDetector, dissimilarity, mean_squares
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from oodbench.models.layers.noise import Noise
    from oodbench.seeding import KeyedNoise

STEPS = 15
REPETITIONS = 4
CELLS = 8


@register("lmd", cite="arXiv 2302.10326", title="LMD (inpainting)")
class LiftMapDetect(DenoisingDetector):
    """Both distances of the image from what is painted in its place."""

    measure_name = "lmd"
    revision = 2
    cost = "64 f"
    score_patterns: ClassVar[Sequence[str]] = ("MSE", "SSIM")
    unoriented: ClassVar[Mapping[str, str]] = {"SSIM": CONTRAST}

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """mse and ssim (B, repetitions)."""
        import torch

        from oodbench.models.denoising.diffusion import scaled
        from oodbench.models.layers.noise import Stacked, scopes

        x, grid = scaled(images), self.model.schedule.grid(STEPS)[::-1]
        board, turns = checkerboard(x), range(REPETITIONS)
        seen = torch.stack([board if turn % 2 else ~board for turn in turns])
        # All turns at once, one below the other.
        held = x.repeat(REPETITIONS, 1, 1, 1)
        known = Stacked(scopes(noise, [f"turn {turn}" for turn in turns]))
        down = Stacked(scopes(noise, [f"turn {turn}/down" for turn in turns]))
        masks = seen.repeat_interleave(len(x), 0)[:, None]
        painted = self._paint(held, masks, grid, known, down)
        found = {"mse": mean_squares(painted, held), "ssim": dissimilarity(painted, held)}
        return {name: values.view(REPETITIONS, -1).T for name, values in found.items()}

    def _paint(
        self, x: Tensor, seen: Tensor, grid: Sequence[float], noise: Noise, down: Noise
    ) -> Tensor:
        """x where `seen` (H, W) or (B, 1, H, W), else what ancestral steps put there.

        `noise` is that of the start and of the visible pixels, `down` that of the steps.
        """
        import torch

        shape = tuple(x.shape[1:])

        def keep(z: Tensor, gamma: float) -> Tensor:
            eps = noise.normal(f"seen {gamma:.6f}", shape)
            known = self.model.diffuse(x, eps, self.model.level(gamma, x))
            return torch.where(seen, known, z)

        z = keep(noise.normal("start", shape), grid[0])
        z = self.model.walk(z, grid, down, keep)
        return torch.where(seen, x, self.model.clean(z, grid[-1]))

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Medians over repetitions."""
        import numpy as np

        return {"MSE": np.median(statistics["mse"], 1), "SSIM": np.median(statistics["ssim"], 1)}

    def score_names(self) -> list[str]:
        """Either distance."""
        return ["MSE", "SSIM"]


def checkerboard(x: Tensor) -> Tensor:
    """(H, W), true on every other of about 8×8 cells, for images (B, C, H, W)."""
    import torch

    rows, columns = (
        torch.arange(side, device=x.device) // max(1, -(-side // CELLS)) for side in x.shape[2:]
    )
    return (rows[:, None] + columns) % 2 == 0
