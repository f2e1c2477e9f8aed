"""Pseudo-inputs: a few low frequencies of an image, and what they look like as an image again.

Kuzina and Tomczak, "Hierarchical VAE with a Diffusion-based VampPrior", TMLR 2024 (arXiv
2412.01373).  Stated there: u is a fixed discrete cosine transform of x, cut short.  Read in the
public code (AKuzina/dvp_vae): the s × s lowest frequencies of an orthonormal DCT-II of x in [0, 1],
each over the largest |⌊coefficient⌋| of the training images, clamped to [−1, 1]; r(u|x) is Gaussian
around that, its log-variance learned per coefficient within [−12, −5]; the way back pads
with zeros and clamps to [0, 1].  Ours: the scale is at least 1, since a coefficient that never
reaches 1 would be divided by 0; mean and variance of u are kept for the diffusion's estimate.

The transform is scipy's: its matrix is applied by two products.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import fft
from torch import Tensor, nn

from oodbench.models.layers.gaussian import Gaussian

LOG_VARIANCE = (-12.0, -5.0)
CHUNK = 1_000


class PseudoInput(nn.Module):
    """u of images (C, H, W) `shape`, of `size` × `size` coefficients a channel.

    `log_variance`: where that of r(u|x) starts.  ValueError where the image is smaller than u.
    """

    scale: Tensor
    mean: Tensor
    variance: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, shape: tuple[int, int, int], size: int, log_variance: float) -> None:
        super().__init__()
        channels, height, width = shape
        if size > min(height, width):
            raise ValueError(
                f"a pseudo-input of {size}×{size} needs images of at least that; they have"
                f" {height}×{width}; lower pseudo_input"
            )
        self.shape = (channels, size, size)
        self.register_buffer("rows", cosines(height)[:size], persistent=False)
        self.register_buffer("columns", cosines(width)[:size], persistent=False)
        self.register_buffer("scale", torch.ones(self.shape))
        self.register_buffer("mean", torch.zeros(self.shape))
        self.register_buffer("variance", torch.ones(self.shape))
        self.log_variance = nn.Parameter(torch.full(self.shape, log_variance))
        self.project()

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Scale, mean and variance from all training images, uint8 (N, C, H, W)."""
        parts = torch.split(images, CHUNK)
        found = torch.cat([self.coefficients(part.float() / 255.0) for part in parts])
        self.scale.copy_(found.floor().abs().amax(0).clamp(min=1.0))
        u = self.normalised(found).double()
        self.mean.copy_(u.mean(0))
        self.variance.copy_(u.var(0, correction=0))

    def coefficients(self, x: Tensor) -> Tensor:
        """(B, C, s, s): the lowest DCT-II coefficients of x (B, C, H, W) in [0, 1]."""
        return self.rows @ x @ self.columns.T

    def normalised(self, coefficients: Tensor) -> Tensor:
        """Coefficients over their scale, in [−1, 1]."""
        return (coefficients / self.scale).clamp(-1.0, 1.0)

    def posterior(self, x: Tensor) -> Gaussian:
        """r(u|x), (B, C, s, s), of x (B, C, H, W) in [0, 1]."""
        mean = self.normalised(self.coefficients(x))
        return Gaussian(mean, torch.exp(0.5 * self.bounded()).expand_as(mean))

    def image(self, u: Tensor) -> Tensor:
        """(B, C, H, W) in [−1, 1]: the image that has these coefficients and no others."""
        x = self.rows.T @ (u * self.scale) @ self.columns
        return 2.0 * x.clamp(0.0, 1.0) - 1.0

    def bounded(self) -> Tensor:
        """The log-variance in its range; the gradient is that of no bounds, lest it stay there."""
        inside = self.log_variance.clamp(*LOG_VARIANCE)
        return self.log_variance + (inside - self.log_variance).detach()

    @torch.no_grad()
    def project(self) -> None:
        """Bring the parameter back into its range, before a step of training."""
        self.log_variance.clamp_(*LOG_VARIANCE)

    def negative_entropy(self) -> Tensor:
        """E log r(u|x), nats, the same for every image."""
        total: Tensor = (self.bounded() + math.log(2 * math.pi * math.e)).sum()
        return -0.5 * total


def cosines(size: int) -> Tensor:
    """(size, size) float32: the orthonormal DCT-II, a frequency in every row."""
    matrix = fft.dct(np.eye(size), type=2, norm="ortho", axis=0)
    return torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float32))
