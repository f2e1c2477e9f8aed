"""A classifier through a bottleneck of few units whose marginal is a trained mixture.

Alemi, Fischer, Dillon 2018 (arXiv 1807.00906): q(z|x) a Gaussian of full covariance, r(z) a mixture
of Gaussians of full covariance whose weights, means and covariances are trained with the rest.
Unlike a fixed N(0, I), such an r(z) has its mass where training images are encoded, so that the
rate log q(z|x) − log r(z) of an image that is encoded elsewhere is high.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.nn import functional as F

from oodbench.models.classifiers.vib import BottleneckClassifier

if TYPE_CHECKING:
    from oodbench.models.classifiers.config import MixtureVIBConfig

#: Least diagonal element of a Cholesky factor.
MIN_SCALE = 1e-4
#: Raw diagonal at which the factor is 1.
UNIT = 0.5413
#: The marginal must follow codes that spread over tens of units while the network takes steps of
#: 1e-3: its means, and its weights and factors, move so many times faster, and its means start with
#: this standard deviation.  Rate on FashionMNIST's own images after 400 steps: 39 nats with 1, 1,
#: 1; 12 with 30, 10, 1; 11 with these.
MEAN_GAIN, GAIN, SPREAD = 30.0, 10.0, 5.0


class MixtureVIBClassifier(BottleneckClassifier):
    """Mean and Cholesky factor of z, and the mixture."""

    def __init__(self, config: MixtureVIBConfig, shape: tuple[int, int, int]) -> None:
        units, count = config.latent, config.components
        entries = units * (units + 1) // 2
        super().__init__(config, shape, units + entries)
        self.latent, self.entries = units, entries
        self.weights = nn.Parameter(torch.zeros(count))
        self.means = nn.Parameter(torch.randn(count, units) * (SPREAD / MEAN_GAIN))
        self.factors = nn.Parameter(torch.zeros(count, self.entries))

    def posterior(self, images: Tensor) -> MultivariateNormal:
        """q(z|x) (B, latent) of uint8 images (B, C, H, W)."""
        parameters = self.encoded(images).float()
        return self._normal(parameters[:, : self.latent], parameters[:, self.latent :])

    def marginal(self) -> MixtureSameFamily:
        """r(z)."""
        return MixtureSameFamily(
            Categorical(logits=GAIN * self.weights, validate_args=False),
            self._normal(MEAN_GAIN * self.means, GAIN * self.factors),
            validate_args=False,
        )

    def _normal(self, mean: Tensor, raw: Tensor) -> MultivariateNormal:
        units = self.latent
        rows, columns = torch.tril_indices(units, units, device=raw.device)
        factor = raw.new_zeros(*raw.shape[:-1], units, units)
        factor[..., rows, columns] = raw
        scale = F.softplus(factor.diagonal(dim1=-2, dim2=-1) + UNIT) + MIN_SCALE
        factor = factor.tril(-1) + torch.diag_embed(scale)
        return MultivariateNormal(mean, scale_tril=factor, validate_args=False)

    def sample(self, q: MultivariateNormal, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """z = μ + L ε (…, B, latent) for ε `drawn` from N(0, I), and log q(z|x) − log r(z) (…, B).

        The mean of the latter over ε is the KL, nats.  log q is computed from ε: solving for it
        in float32 fails where L is near to singular.
        """
        z = q.mean + (q.scale_tril @ drawn[..., None])[..., 0]
        volume = q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_q = -0.5 * (drawn**2 + math.log(2 * math.pi)).sum(-1) - volume
        log_r: Tensor = self.marginal().log_prob(z)  # type: ignore[no-untyped-call]
        return z, log_q - log_r

    def loss(self, images: Tensor, epoch: int, *, labels: Tensor) -> dict[str, Tensor]:
        """The bound of the bottleneck with one sample of z for both terms, mean over the batch."""
        q = self.posterior(images)
        return self.bound(*self.sample(q, torch.randn_like(q.mean)), labels)
