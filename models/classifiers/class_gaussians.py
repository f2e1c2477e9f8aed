"""Gaussians of features: one mean per class and a covariance that the classes share.

Lee, Lee, Lee, Shin, NeurIPS 2018 (arXiv 1807.03888), Eq. 1 and 2, and the Gaussian of all classes
together of Ren et al. 2021 (arXiv 2106.09022).  Estimates are of maximum likelihood (divided by N),
their inverses pseudo-inverses: a direction without variance in training does not count.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassGaussians(nn.Module):
    """Buffers, float64: `means` (K, D), `precision` (D, D), `mean` (D,), `total_precision`."""

    means: Tensor
    precision: Tensor
    mean: Tensor
    total_precision: Tensor

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        for name, shape in (
            ("means", (classes, size)),
            ("precision", (size, size)),
            ("mean", (size,)),
            ("total_precision", (size, size)),
        ):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def fit(self, moments: Moments) -> None:
        """Take the estimates.

        A class without images has the mean of all images, bit for bit, and is known by it
        (`seen`); a mean of a class with images that equals it is moved by one rounding.
        """
        count = moments.counts.sum()
        self.mean.copy_(moments.sums.sum(0) / count)
        seen = moments.counts > 0
        own = moments.sums / moments.counts.clamp(min=1)[:, None]
        beside = torch.nextafter(own, torch.full_like(own, torch.inf))
        own = torch.where((own == self.mean).all(1, keepdim=True), beside, own)
        self.means.copy_(torch.where(seen[:, None], own, self.mean))
        second = moments.squares / count
        within = second - (self.means.T * (moments.counts / count)) @ self.means
        self.precision.copy_(torch.linalg.pinv(within, rtol=1e-10, hermitian=True))
        total = second - torch.outer(self.mean, self.mean)
        self.total_precision.copy_(torch.linalg.pinv(total, rtol=1e-10, hermitian=True))

    def seen(self) -> Tensor:
        """(K,) bool: which classes had images; all of them where nothing tells."""
        own = (self.means != self.mean).any(1)
        return own if bool(own.any()) else torch.ones_like(own)

    def distance(self, features: Tensor) -> Tensor:
        """min_c ½ (h − μ_c)ᵀ Σ⁻¹ (h − μ_c) of features (B, D), (B,) float64.

        Over the classes that had images: any other would stand in the middle of all.
        """
        away = features.double()[:, None] - self.means[self.seen()]
        return 0.5 * ((away @ self.precision) * away).sum(2).amin(1)

    def relative_distance(self, features: Tensor) -> Tensor:
        """`distance` less that to the Gaussian of all classes together, (B,) float64."""
        away = features.double() - self.mean
        background = 0.5 * ((away @ self.total_precision) * away).sum(1)
        return self.distance(features) - background


class Moments:
    """Sums over images for one `ClassGaussians`, float64: counts (K,), sums (K, D), squares."""

    def __init__(self, classes: int, size: int, device: torch.device) -> None:
        double = torch.float64
        self.counts = torch.zeros(classes, dtype=double, device=device)
        self.sums = torch.zeros(classes, size, dtype=double, device=device)
        self.squares = torch.zeros(size, size, dtype=double, device=device)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Features (B, D) of images with labels (B,)."""
        h = features.double()
        self.counts += torch.bincount(labels, minlength=len(self.counts))
        self.sums.index_add_(0, labels, h)
        self.squares += h.T @ h
