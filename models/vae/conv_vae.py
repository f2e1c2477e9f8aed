"""The convolutional VAE of likelihood regret: DCGAN-shaped, 256-way categorical pixels.

Xiao, Yan, Amit, NeurIPS 2020 (arXiv 2003.02977).  p(z) = N(0, I); the decoder gives 256 logits for
every number of the image, so that log p(x|z) is the log-probability of its 8-bit values.  Strided
4×4 convolutions with batch normalisation halve the map `levels` times, one full-size convolution
reads mean and log-variance of q(z|x); the decoder mirrors this.  The published models resize grey
images to 32×32; here the maps have whatever sizes the image gives (28, 14, 7, 3), so that the
likelihood is that of the image itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.layers.branches import Branches
from oodbench.models.layers.categorical_pixels import VALUES, log_prob
from oodbench.models.layers.gaussian import Gaussian, kl_analytic, kl_sample, standard
from oodbench.models.layers.noise import FreshNoise, Noise, scopes
from oodbench.models.layers.transposed_convolution import quarters
from oodbench.models.vae.encoder import Encoder, map_sizes
from oodbench.models.vae.importance_bounds import Ceiling, log_sum_exp

if TYPE_CHECKING:
    from oodbench.models.vae.config import ConvVAEConfig

#: Images whose logits are made at once on a CPU in training.
AT_ONCE = 8
#: Draws of z that go through the decoder together while a bound is taken.
DRAWS_AT_ONCE = 64
#: Importance samples from which on `ceilings` save more than they cost.
SCREENED = 32
#: Numbers of the map below the logits that are made at once there: 16 MB.
SCREENED_AT_ONCE = 1 << 22


class Decoder(nn.Module):
    """Logits (B, H, W, C, 256) of p(x|z) from z (B, latent).

    The 256 of a number come last, so that a softmax reads them side by side.
    """

    def __init__(self, config: ConvVAEConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        sizes = map_sizes(config.levels, shape)
        width = config.width * 2 ** (config.levels - 1)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(config.latent, width, sizes[-1], bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for level in reversed(range(1, config.levels)):
            extra = [
                below - 2 * above for below, above in zip(*sizes[level : level + 2], strict=True)
            ]
            narrow = config.width * 2 ** (level - 1)
            layers += [
                nn.ConvTranspose2d(width, narrow, 4, 2, 1, tuple(extra), bias=False),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
            ]
            width = narrow
        extra = [below - 2 * above for below, above in zip(*sizes[:2], strict=True)]
        outputs = VALUES * shape[0]
        layers.append(nn.ConvTranspose2d(width, outputs, 4, 2, 1, tuple(extra), bias=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        height, width = self.shape[1:]
        out = z.new_empty(len(z), height, width, self.shape[0], VALUES)
        for rows, columns, logits in self.parts(z):
            out[:, rows, columns] = logits
        return out

    @property
    def last(self) -> nn.ConvTranspose2d:
        """The layer that gives the logits."""
        return cast("nn.ConvTranspose2d", self.layers[-1])

    def trunk(self, z: Tensor) -> Tensor:
        """What the last layer reads, (B, width, H/2, W/2)."""
        h = z[:, :, None, None]
        for layer in self.layers[:-1]:
            h = layer(h)
        return h

    def parts(self, z: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Rows, columns and logits of every quarter of the pixels."""
        for rows, columns, out in quarters(self.last, self.trunk(z)):
            yield rows, columns, out.view(*out.shape[:3], VALUES, -1).transpose(3, 4)


class ConvVAE(nn.Module):
    """The model for images of `shape` (C, H, W); ValueError where it is halved away."""

    def __init__(self, config: ConvVAEConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        if min(map_sizes(config.levels, shape)[-1]) < 1:
            raise ValueError(f"{config.levels} levels halve {shape[1]}×{shape[2]} to nothing")
        self.encoder, self.decoder = Encoder(config, shape), Decoder(config, shape)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    # ------------------------------------------------------------------ parts
    def posterior(self, images: Tensor) -> Gaussian:
        """q(z|x) of uint8 images (B, C, H, W)."""
        return gaussian(*self.encoder(images.float() / 255.0))

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), nats, (B,) float64."""
        values = images.permute(0, 2, 3, 1).long()
        trains = torch.is_grad_enabled() and self.decoder.last.weight.requires_grad
        if self._plain(z) and not trains:
            return log_prob(self.decoder.last, self.decoder.trunk(z), values)
        # On a CPU a few images at a time: their logits stay in the cache.
        at_once = AT_ONCE if z.device.type == "cpu" else len(z)
        parts = zip(torch.split(values, at_once), torch.split(z, at_once), strict=True)
        return torch.cat([self._log_likelihood(some, its) for some, its in parts])

    def _plain(self, z: Tensor) -> bool:
        """Whether the decoder computes in float32 on a CPU."""
        on_cpu = z.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        return on_cpu and z.dtype == torch.float32

    def _log_likelihood(self, values: Tensor, z: Tensor) -> Tensor:
        total = torch.zeros(len(z), dtype=torch.float64, device=z.device)
        for rows, columns, logits in self.decoder.parts(z):
            chosen = values[:, rows, columns].flatten()
            elements = F.cross_entropy(logits.reshape(-1, VALUES).float(), chosen, reduction="none")
            total = total - elements.view(len(z), -1).sum(1, dtype=torch.float64)
        return total

    def bound(self, images: Tensor, q: Gaussian, noise: Noise, samples: int = 1) -> Tensor:
        """log 1/S Σ_s p(x, z_s) / q(z_s), z_s ~ q: a lower bound on log p(x) in expectation.

        Nats, (B,) float64, for any Gaussian q (B, latent).  Streamed: of what grows with S only the
        draws themselves are held.
        """
        screened = samples >= SCREENED and not self.training and not torch.is_grad_enabled()
        if screened and self._plain(q.mean):
            return self._screened_bound(images, q, noise, samples)
        latent = tuple(q.mean.shape[1:])
        prior = standard(tuple(q.mean.shape), q.mean)
        together = max(1, DRAWS_AT_ONCE // len(images))
        sums = []
        sources = scopes(noise, [f"s{s}" for s in range(samples)])
        for first in range(0, samples, together):
            draws = sources[first : first + together]
            eps = torch.stack([draw.normal("z", latent) for draw in draws])
            z = q.mean + q.scale * eps
            ratio = kl_sample(z, q, prior).sum(2, dtype=torch.float64)
            repeated = images.repeat(len(draws), *[1] * (images.ndim - 1))
            log_w = self.log_likelihood(repeated, z.flatten(0, 1)).view(len(draws), -1) - ratio
            sums.append(torch.logsumexp(log_w, 0))
        return torch.logsumexp(torch.stack(sums), 0) - math.log(samples)

    def _screened_bound(self, images: Tensor, q: Gaussian, noise: Noise, samples: int) -> Tensor:
        """The same to 1e-4 nats, without the draws whose weight cannot matter (`ceilings`)."""
        latent = tuple(q.mean.shape[1:])
        sources = scopes(noise, [f"s{s}" for s in range(samples)])
        eps = torch.stack([source.normal("z", latent) for source in sources], 1)
        prior = standard(latent, q.mean)
        values = images.permute(0, 2, 3, 1).long()
        references = self.decoder.trunk(q.mean)
        together = max(1, SCREENED_AT_ONCE // references[0].numel())
        ratios = torch.empty(samples, len(images), dtype=torch.float64)
        ceilings = torch.empty_like(ratios)
        for row, (mean, scale) in enumerate(zip(*q, strict=True)):
            z = mean + scale * eps[row]
            ratios[:, row] = kl_sample(z, Gaussian(mean, scale), prior).sum(1, dtype=torch.float64)
            ceiling = Ceiling(self.decoder.last, references[row, None], values[row])
            parts = [ceiling(self.decoder.trunk(some)) for some in torch.split(z, together)]
            ceilings[:, row] = torch.cat(parts) - ratios[:, row]

        def weights(draws: Tensor, rows: Tensor) -> Tensor:
            likelihoods = []
            for s, row in zip(
                torch.split(draws, together), torch.split(rows, together), strict=True
            ):
                z = q.mean[row] + q.scale[row] * eps[row, s]
                likelihoods.append(self.log_likelihood(images[row], z))
            return torch.cat(likelihoods) - ratios[draws, rows]

        return log_sum_exp(ceilings, weights) - math.log(samples)

    # ------------------------------------------------------------------ public use
    def log_prob(self, images: Tensor, noise: Noise | None = None, samples: int = 1) -> Tensor:
        """Importance-weighted bound on log p(x) of uint8 images, nats, (B,) float64."""
        noise = noise or FreshNoise(images.shape[0], images.device)
        return self.bound(images, self.posterior(images), noise, samples)

    def initialise(self, images: Tensor) -> None:
        """Nothing depends on the data: batch normalisation follows the batches."""

    def loss(self, images: Tensor, epoch: int) -> dict[str, Tensor]:
        """−ELBO with one sample and the closed-form KL, mean over the batch, nats per image."""
        q = self.posterior(images)
        z = q.mean + q.scale * torch.randn_like(q.mean)
        nll = -self.log_likelihood(images, z).mean()
        kl = kl_analytic(q, standard(tuple(q.mean.shape), q.mean)).sum(1).mean()
        loss = nll + kl
        return {"loss": loss, "elbo": -loss.detach(), "nll": nll.detach(), "kl": kl.detach()}

    @torch.no_grad()
    def posteriors(self, images: Tensor, noise: Noise | None = None) -> list[Gaussian]:
        """q(z|x), (B, latent), of uint8 images, as the one layer of a hierarchical VAE."""
        return [self.posterior(images)]

    @torch.no_grad()
    def all_branches(self, images: Tensor, noise: Noise | None = None) -> Branches:
        """NLL and KL of one draw of z, as the branch k = 0 of a hierarchical VAE of one layer."""
        noise = noise or FreshNoise(images.shape[0], images.device)
        q = self.posterior(images)
        z = q.mean + q.scale * noise.normal("z", tuple(q.mean.shape[1:]))
        kl = kl_sample(z, q, standard(tuple(q.mean.shape), q.mean))
        return Branches((0,), -self.log_likelihood(images, z)[None], [{0: kl}], 1, {0: q})

    @torch.no_grad()
    def sample(self, n: int, noise: Noise | None = None) -> Tensor:
        """n images from the prior, (n, C, H, W) uint8."""
        noise = noise or FreshNoise(n, next(self.parameters()).device)
        z = noise.normal("z", (self.config.latent,))
        cumulative = torch.softmax(self.decoder(z).float(), dim=-1).cumsum(dim=-1)
        u = noise.uniform("pixel", self.shape).permute(0, 2, 3, 1).unsqueeze(-1)
        values = (cumulative < u).sum(-1).clamp(max=VALUES - 1).to(torch.uint8)
        return values.permute(0, 3, 1, 2).contiguous()


def gaussian(mean: Tensor, log_variance: Tensor) -> Gaussian:
    """N(mean, e^log_variance)."""
    return Gaussian(mean, torch.exp(0.5 * log_variance))
