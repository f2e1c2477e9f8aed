"""What detectors that denoise share: the model, distances of images, standardised distances.

Distances of a reconstruction x̂ from x, both in [−1, 1]:
    MSE    mean of (x̂ − x)²
    SSIM   1 − the mean structural similarity (Wang et al. 2004) over all windows of 7×7 pixels, or
           as large as the image has them, with equal weights
The papers use LPIPS beside or instead of these, whose network is trained with labels on a broad
set of photographs: a detector with it has seen more than its ID images.  Neither of these has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.detect.detector import Detector

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from oodbench.models.denoising.diffusion import DiffusionModel

WINDOW = 7
#: Why noise does not settle the sign of SSIM.
CONTRAST = "similarity is relative to contrast: what is left of noise of high contrast is similar"
#: (0.01 · range)² and (0.03 · range)² of SSIM, the range being 2.
STEADY = (0.02**2, 0.06**2)
#: A distance that hardly varies over the training images says nothing.
LEAST_SPREAD = 1e-9


class DenoisingDetector(Detector):
    """A detector on the diffusion model that `diffusion` trains."""

    recipe_variant = "diffusion-paths"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = cast("DiffusionModel", models[0])


def mean_squares(a: Tensor, b: Tensor) -> Tensor:
    """(B,) float64: MSE of images (B, C, H, W)."""
    return ((a - b).double() ** 2).flatten(1).mean(1)


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """(B,) float64: 1 − SSIM of images (B, C, H, W) in [−1, 1]."""
    import torch
    from torch.nn import functional as F

    window = tuple(min(WINDOW, side) for side in a.shape[2:])
    a, b = a.double(), b.double()
    mean_a, mean_b, square_a, square_b, product = (
        F.avg_pool2d(x, window, 1) for x in (a, b, a * a, b * b, a * b)
    )
    varies_a = (square_a - mean_a**2).clamp(min=0.0)
    varies_b = (square_b - mean_b**2).clamp(min=0.0)
    both = product - mean_a * mean_b
    alike = (2 * mean_a * mean_b + STEADY[0]) * (2 * both + STEADY[1])
    most = (mean_a**2 + mean_b**2 + STEADY[0]) * (varies_a + varies_b + STEADY[1])
    found: Tensor = torch.ones_like(a[:, 0, 0, 0]) - (alike / most).flatten(1).mean(1)
    return found


class Standardised:
    """Named statistics (N, K), in standard deviations of the training images above their mean."""

    def __init__(self, statistics: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.mean = {name: statistics[name].mean(0) for name in names}
        self.spread = {name: statistics[name].std(0) for name in names}

    def __call__(self, statistics: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        """(N, K) of a name; 0 where the training images are all alike."""
        import numpy as np

        spread = self.spread[name]
        away = (statistics[name] - self.mean[name]) / np.where(spread > LEAST_SPREAD, spread, 1.0)
        return np.asarray(np.where(spread > LEAST_SPREAD, away, 0.0))
