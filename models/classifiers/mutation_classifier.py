"""A binary classifier of training images against mutated ones, used as a likelihood ratio.

With equal shares of both classes the optimal logit is log p(x) − log p0(x), p0 the density of the
mutated images: the ratio of Ren et al. 2019 (arXiv 1906.02845) without a model of either density.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from oodbench.models.classifiers.config import MutationClassifierConfig


class MutationClassifier(nn.Module):
    """Strided 3×3 convolutions, an average over the map, a logit; for images of `shape`."""

    def __init__(self, config: MutationClassifierConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((shape[0], *config.channels)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(config.channels[-1], 1)

    def logit(self, images: Tensor) -> Tensor:
        """log-odds that uint8 images (B, C, H, W) are not mutated, (B,)."""
        h = self.features(images.float() / 127.5 - 1.0)
        out: Tensor = self.head(h.mean((2, 3))).squeeze(1)
        return out

    def initialise(self, images: Tensor) -> None:
        """Nothing depends on the data."""

    def loss(self, images: Tensor, epoch: int) -> dict[str, Tensor]:
        """Binary cross-entropy on the batch and its mutation (values replaced by uniform ones)."""
        hit = torch.rand(images.shape, device=images.device) < self.config.rate
        u = torch.randint(0, 256, images.shape, dtype=torch.uint8, device=images.device)
        logits = self.logit(torch.cat([images, torch.where(hit, u, images)]))
        target = torch.zeros_like(logits)
        target[: len(images)] = 1.0
        loss = F.binary_cross_entropy_with_logits(logits, target)
        accuracy = ((logits > 0) == (target > 0)).float().mean()
        return {"loss": loss, "accuracy": accuracy.detach()}
