"""A classifier through a variational information bottleneck.

Alemi, Fischer, Dillon, Murphy, ICLR 2017 (arXiv 1612.00410), Eq. 17:
    E_q(z|x) [−log p(y|z)] + β · KL(q(z|x) ‖ r(z)),  r = N(0, I),
with q a diagonal Gaussian and a linear p(y|z).  The KL term is the *rate*; Alemi, Fischer, Dillon
2018 (arXiv 1807.00906) read it as a measure of how far an image is from the training set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.classifiers.backbones import make_backbone
from oodbench.models.classifiers.image_classifier import scaled, standardised
from oodbench.models.layers.gaussian import Gaussian, from_raw, kl_analytic, standard

if TYPE_CHECKING:
    from oodbench.models.classifiers.config import MixtureVIBConfig, VIBConfig


class Encoded(Protocol):
    """q(z|x): at least its mean."""

    @property
    def mean(self) -> Tensor:
        """(B, latent)."""
        ...


class BottleneckClassifier(nn.Module):
    """Backbone, parameters of q(z|x), and a linear layer from z to the logits."""

    def __init__(
        self, config: VIBConfig | MixtureVIBConfig, shape: tuple[int, int, int], parameters: int
    ) -> None:
        super().__init__()
        self.shape, self.classes, self.rate_weight = shape, config.classes, config.rate_weight
        self.backbone = make_backbone(config.network, shape)
        self.posterior_head = nn.Linear(self.backbone.sizes[-1], parameters)
        self.head = nn.Linear(config.latent, config.classes)

    def encoded(self, images: Tensor) -> Tensor:
        """Parameters of q(z|x) (B, parameters) of uint8 images (B, C, H, W)."""
        out: Tensor = self.posterior_head(self.backbone(standardised(scaled(images)))[-1])
        return out

    def posterior(self, images: Tensor) -> Encoded:
        """q(z|x) of uint8 images (B, C, H, W)."""
        raise NotImplementedError

    def logits(self, images: Tensor) -> Tensor:
        """Logits at the mean of q(z|x), of uint8 images (B, C, H, W)."""
        out: Tensor = self.head(self.posterior(images).mean)
        return out

    def initialise(self, images: Tensor) -> None:
        """Nothing depends on the data."""

    def bound(self, z: Tensor, rates: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of one sample z (B, latent) and the rates (B,), mean over the batch."""
        logits = self.head(z)
        error, rate = F.cross_entropy(logits, labels), rates.mean()
        accuracy = (logits.argmax(1) == labels).float().mean()
        return {
            "loss": error + self.rate_weight * rate,
            "cross_entropy": error.detach(),
            "rate": rate.detach(),
            "accuracy": accuracy,
        }


class VIBClassifier(BottleneckClassifier):
    """q(z|x) a diagonal Gaussian, r = N(0, I)."""

    def __init__(self, config: VIBConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape, 2 * config.latent)

    def posterior(self, images: Tensor) -> Gaussian:
        """q(z|x) (B, latent) of uint8 images (B, C, H, W)."""
        return from_raw(self.encoded(images))

    def rate(self, q: Gaussian) -> Tensor:
        """KL(q ‖ N(0, I)), nats, (B,)."""
        return kl_analytic(q, standard(tuple(q.mean.shape), q.mean)).sum(1)

    def loss(self, images: Tensor, epoch: int, *, labels: Tensor) -> dict[str, Tensor]:
        """The bound with one sample of z, mean over the batch."""
        q = self.posterior(images)
        z = q.mean + q.scale * torch.randn_like(q.mean)
        return self.bound(z, self.rate(q), labels)
