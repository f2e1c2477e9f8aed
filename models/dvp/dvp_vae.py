"""The DVP-VAE: a ladder VAE whose priors see a pseudo-input u that has a diffusion prior.

Kuzina and Tomczak, "Hierarchical VAE with a Diffusion-based VampPrior", TMLR 2024 (arXiv
2412.01373).  With z_l from the top down in *groups* of one resolution,
    p(x, z, u) = p(x|z) ∏ p(z_l|z above, u) p(u),   q(z, u|x) = r(u|x) ∏ q(z_l|z above, x).
Stated there: u is a cut DCT of x (`oodbench.models.dvp.pseudo_inputs`), p(u) a diffusion model
(`oodbench.models.dvp.diffusion_prior`), every prior sees u, and the latents are aggregated so that
none is
bypassed.  Read in the public code (AKuzina/dvp_vae): u's image is averaged to a group's size and
concatenated to the state before the prior's network, whose residual is added to the state; the
posterior's network takes (features + state)/√2; the state starts at ones; Σz, each enlarged
bilinearly, is divided by √(number of latents) and passes a 1×1 and a 3×3 convolution with nothing
between, and the likelihood sees nothing else; the loss has no warm-up and no free bits.

Here the *branch* k takes u from r(u|x) and the z of the groups above k from q, and those of the
lowest k groups from p (ours); k = 0 is the ELBO, k = G leaves u alone to say what x is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.dvp.bottleneck import Ascent, LatentBlock, map_sizes, resize
from oodbench.models.dvp.config import DVPConfig
from oodbench.models.dvp.denoiser import Denoiser
from oodbench.models.dvp.diffusion_prior import Coordinates, Diffusion
from oodbench.models.dvp.pseudo_inputs import PseudoInput
from oodbench.models.layers.branches import Branches
from oodbench.models.layers.gaussian import Gaussian, kl_analytic, kl_sample, log_density
from oodbench.models.layers.likelihoods import build_likelihood
from oodbench.models.layers.noise import AtMeans, FreshNoise, Noise, Stacked, scopes
from oodbench.models.layers.weight_norm import Conv2d

Draw = Literal["sample", "mode"]
#: Images that a pass of importance sampling holds at once.
ROWS = 400


@dataclass(frozen=True)
class Seen:
    """x as the likelihood observes it, r(u|x), and the features of every group, bottom first."""

    x: Tensor
    r: Gaussian
    features: list[Tensor]

    def repeated(self, times: int) -> Seen:
        """The batch `times` times over."""
        r = Gaussian(*(t.repeat(times, 1, 1, 1) for t in self.r))
        return Seen(
            self.x.repeat(times, 1, 1, 1), r, [f.repeat(times, 1, 1, 1) for f in self.features]
        )


@dataclass
class Trail:
    """A pass on its way down: the state, the sum of latents at full size, and what was inferred.

    `kl[g]`: elementwise KL (B, units) of group g + 1; `q[g]`: its posterior, (B, units).
    """

    state: Tensor
    total: Tensor | None = None
    kl: dict[int, Tensor] = field(default_factory=dict)
    q: dict[int, Gaussian] = field(default_factory=dict)


class DVPVAE(nn.Module):
    """The model for images of `shape` (C, H, W); see `DVPConfig`."""

    def __init__(self, config: DVPConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape, self.layers = config, shape, len(config.groups)
        self.sizes = map_sizes(config, shape)
        settings = config.diffusion
        self.pseudo = PseudoInput(shape, config.pseudo_input, settings.gamma_min)
        network = Denoiser(shape[0], settings.width, settings.blocks, settings.dropout)
        gamma = (settings.gamma_min, settings.gamma_max)
        self.prior = Diffusion(network, self.pseudo.shape, gamma, settings.steps)
        self.encoder = Ascent(config, shape[0])
        self.decoder = nn.ModuleList(
            nn.ModuleList(
                LatentBlock(config, shape[0], lowest=g == 0 and i == group.latents - 1)
                for i in range(group.latents)
            )
            for g, group in enumerate(config.groups)
        )
        self.count = sum(group.latents for group in config.groups)
        self.aggregate = nn.Conv2d(config.channels, config.features, 1)
        full = (config.features, *shape[1:])
        self.likelihood = build_likelihood(config.likelihood, full, shape, normalise=False)
        size = (shape[1], shape[2])
        self.likelihood.layer = Conv2d(
            size, config.features, self.likelihood.per_pixel, 3, normalise=False
        )

    # ------------------------------------------------------------------ passes
    def see(self, images: Tensor, noise: Noise) -> Seen:
        """What inference starts from, of uint8 images (B, C, H, W)."""
        x = self.likelihood.observe(images, noise)
        seen = images.float() / 255.0 if self.config.sees == "intensities" else x
        return Seen(x, self.pseudo.posterior(seen), self.encoder(2.0 * seen - 1.0))

    def start(self, batch: int) -> Trail:
        """Before the top group."""
        like = self.aggregate.weight
        shape = (batch, self.config.features, *self.sizes[-1])
        return Trail(torch.ones(shape, dtype=like.dtype, device=like.device))

    def descend(
        self,
        trail: Trail,
        group: int,
        image: Tensor,
        noise: Noise,
        *,
        features: Tensor | None = None,
        lower: Draw = "sample",
        analytic: bool = False,
        name: str = "",
    ) -> Trail:
        """The trail after group `group` + 1, with z from q where `features` are given, else from p.

        `image`: that of u.  `lower`: z from p is a sample or p's mean.  `analytic`: the KL in
        closed form.  `name` tells draws from p of different branches apart.
        """
        size = self.sizes[group]
        context = F.adaptive_avg_pool2d(image, size)
        state, total = trail.state, torch.zeros(())
        kl, posteriors = [], []
        for i, block in enumerate(cast("Sequence[LatentBlock]", self.decoder[group])):
            p, residual = block.conditional(state, context)
            if features is not None:
                q = block.inferred(state, features)
                z = q.mean + q.scale * noise.normal(f"z{group + 1}.{i}", tuple(q.mean.shape[1:]))
                kl.append((kl_analytic(q, p) if analytic else kl_sample(z, q, p)).flatten(1))
                posteriors.append(q)
            elif lower == "mode":
                z = p.mean
            else:
                draw = noise.normal(f"p{group + 1}.{i}{name}", tuple(p.mean.shape[1:]))
                z = p.mean + p.scale * draw
            total = total + z
            if residual is not None:
                state = block.below(state, residual, z)
        full = resize(total, self.shape[1:])
        found = Trail(state, full if trail.total is None else trail.total + full)
        found.kl, found.q = dict(trail.kl), dict(trail.q)
        if kl:
            found.kl[group] = torch.cat(kl, dim=1)
            parts = [torch.cat([part[i].flatten(1) for part in posteriors], 1) for i in (0, 1)]
            found.q[group] = Gaussian(*parts)
        if group:
            found.state = resize(state, self.sizes[group - 1])
        return found

    def head(self, trail: Trail) -> Tensor:
        """Likelihood parameters from the sum of the latents, and from nothing else."""
        assert trail.total is not None
        out: Tensor = self.likelihood(self.aggregate(trail.total / math.sqrt(self.count)))
        return out

    def trails(
        self,
        seen: Seen,
        u: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        *,
        lower: Draw = "sample",
        analytic: bool = False,
    ) -> list[Trail]:
        """The branches `ks` (0 … G), each after the lowest group; they share what is inferred."""
        image = self.pseudo.image(u)
        trunk = [self.start(len(u))]
        for group in reversed(range(min(ks), self.layers)):
            trunk.append(
                self.descend(
                    trunk[-1],
                    group,
                    image,
                    noise,
                    features=seen.features[group],
                    analytic=analytic,
                )
            )
        found = []
        for k in ks:
            trail = trunk[self.layers - k]
            for group in reversed(range(k)):
                trail = self.descend(trail, group, image, noise, lower=lower, name=f"/k{k}")
            found.append(trail)
        return found

    def log_likelihood(self, trail: Trail, x: Tensor) -> Tensor:
        """log p(x|z), nats, (B,) float64."""
        return self.likelihood.log_prob(self.head(trail), x)

    def draw_u(self, r: Gaussian, noise: Noise) -> Tensor:
        """u from r(u|x)."""
        return r.mean + r.scale * noise.normal("u", self.pseudo.shape)

    def surprise(self, u: Tensor, eps: Tensor) -> Tensor:
        """The diffusion's bound on −log p(u), by its draws `eps`, nats, (B,) float64."""
        variance = self.pseudo.variance + self.pseudo.bounded().exp()
        return self.prior.bound(u, eps, Coordinates(self.pseudo.mean, variance))

    def log_weight(self, trail: Trail, seen: Seen, u: Tensor, eps: Tensor) -> Tensor:
        """log w of one draw of u and z from q, the branch k = 0, nats, (B,) float64."""
        log_r = group_sum(log_density(u, seen.r).flatten(1))
        terms = [group_sum(trail.kl[group]) for group in range(self.layers)]
        found = self.log_likelihood(trail, seen.x) - torch.stack(terms).sum(0)
        return found - self.surprise(u, eps) - log_r

    # ------------------------------------------------------------------ training
    def prepare(self, images: Tensor, seed: int) -> None:
        """Fit the scale of the pseudo-inputs on all training images, uint8 (N, C, H, W)."""
        self.pseudo.fit(images)

    def initialise(self, images: Tensor) -> None:
        """Nothing depends on the first batch."""

    def compile_parts(self) -> None:
        """Compile the networks with torch.compile; results may then differ in rounding."""
        for module in (self.encoder, self.prior.network, *self.decoder):
            module.compile()

    def loss(self, images: Tensor, epoch: int) -> dict[str, Tensor]:
        """−ELBO with one sample, mean over the batch, nats per image, and what to log beside it."""
        self.pseudo.project()
        noise = FreshNoise(len(images), images.device)
        seen = self.see(images, noise)
        u = self.draw_u(seen.r, noise)
        kl_u = (self.prior.training_bound(u, noise) + self.pseudo.negative_entropy()).mean()
        (trail,) = self.trails(seen, u, noise, analytic=True)
        nll = -self.log_likelihood(trail, seen.x).mean()
        kl = [group_sum(trail.kl[g]).mean() for g in range(self.layers)]
        loss = nll + kl_u + torch.stack(kl).sum()
        logged = {"loss": loss, "elbo": -loss.detach(), "nll_0": nll.detach()}
        logged |= {f"kl_{g + 1}": term.detach() for g, term in enumerate(kl)}
        return logged | {"kl_u": kl_u.detach()}

    # ------------------------------------------------------------------ public use
    @torch.no_grad()
    def log_prob(self, images: Tensor, noise: Noise | None = None, samples: int = 1) -> Tensor:
        """Importance-weighted estimate of log p(x), nats, (B,) float64, of uint8 images.

        log 1/S Σ_s w_s with log w = log p(x|z) + Σ (log p − log q)(z) − log r(u|x) + log p(u),
        where −log p(u) is the diffusion's bound.  The S samples share the bound's draws: what is
        common to them drops out of the weights, so that their mean is not pulled up by its noise.
        """
        noise = noise or FreshNoise(len(images), images.device)
        eps = self.prior.draws(noise)
        total = self.importance(self.see(images, noise), noise, eps, range(samples))
        return total - math.log(samples)

    @torch.no_grad()
    def importance(self, seen: Seen, noise: Noise, eps: Tensor, numbers: range) -> Tensor:
        """log Σ_s w_s over the samples `numbers`, a few hundred rows at a time, (B,) float64.

        Number 0 has the very draws of `trails` with the same noise.
        """
        batch = len(seen.x)
        total = torch.full((batch,), -math.inf, dtype=torch.float64, device=seen.x.device)
        chunk = max(1, ROWS // batch)
        sources = scopes(noise, [f"s{s}" if s else "" for s in numbers])
        for start in range(0, len(numbers), chunk):
            part = sources[start : start + chunk]
            draws = Stacked(part)
            rows = seen.repeated(len(part))
            u = self.draw_u(rows.r, draws)
            (trail,) = self.trails(rows, u, draws)
            log_w = self.log_weight(trail, rows, u, eps.repeat(len(part), 1, 1, 1, 1))
            total = torch.logaddexp(total, torch.logsumexp(log_w.view(len(part), batch), dim=0))
        return total

    @torch.no_grad()
    def sample(self, n: int, noise: Noise | None = None) -> Tensor:
        """n images, (n, C, H, W) uint8: u from the diffusion prior, z from p(z|u)."""
        noise = noise or FreshNoise(n, self.aggregate.weight.device)
        return self.likelihood.sample(self.head(self.from_prior(n, noise)), noise)

    @torch.no_grad()
    def prior_means(self, n: int, noise: Noise | None = None) -> Tensor:
        """n means of p(x|z), u and every z from the prior, (n, C, H, W) in [0, 1]."""
        noise = noise or FreshNoise(n, self.aggregate.weight.device)
        return self.likelihood.mean(self.head(self.from_prior(n, noise)))

    def from_prior(self, n: int, noise: Noise, lower: Draw = "sample") -> Trail:
        """u and every z from the prior."""
        image = self.pseudo.image(self.prior.sample(noise))
        trail = self.start(n)
        for group in reversed(range(self.layers)):
            trail = self.descend(trail, group, image, noise, lower=lower)
        return trail

    @torch.no_grad()
    def reconstruct(
        self, images: Tensor, k: int = 0, noise: Noise | None = None, lower: Draw = "mode"
    ) -> Tensor:
        """Mean of p(x|z), (B, C, H, W) in [0, 1], in the branch k of uint8 images (B, C, H, W).

        k = G takes every z from its prior given u, as LLR>all does; u is always from r(u|x).
        """
        noise = noise or FreshNoise(len(images), images.device)
        seen = self.see(images, noise)
        (trail,) = self.trails(seen, self.draw_u(seen.r, noise), noise, [k], lower=lower)
        return self.likelihood.mean(self.head(trail))

    @torch.no_grad()
    def posteriors(self, images: Tensor, noise: Noise | None = None) -> list[Gaussian]:
        """q(z|·) of every group, mean and scale (B, units), of uint8 images (B, C, H, W).

        u and every latent that q is conditioned on are at their means.
        """
        means = AtMeans(noise or FreshNoise(len(images), images.device))
        seen = self.see(images, means)
        (trail,) = self.trails(seen, seen.r.mean, means)
        return [trail.q[g] for g in range(self.layers)]

    def layer_means(self, images: Tensor, noise: Noise | None = None) -> list[Tensor]:
        """Means (B, units) of `posteriors`."""
        return [q.mean for q in self.posteriors(images, noise)]

    @torch.no_grad()
    def all_branches(self, images: Tensor, noise: Noise | None = None) -> Branches:
        """The branches k = 0 … G − 1 of uint8 images (B, C, H, W), groups l ≤ k at their means.

        All of them pay KL(u), by the diffusion's bound on −log p(u).
        """
        noise = noise or FreshNoise(len(images), images.device)
        seen = self.see(images, noise)
        ks = tuple(range(self.layers))
        u = self.draw_u(seen.r, noise)
        trails = self.trails(seen, u, noise, ks, lower="mode")
        nll = torch.stack([-self.log_likelihood(trail, seen.x) for trail in trails])
        kl_u = self.surprise(u, self.prior.draws(noise)) + self.pseudo.negative_entropy()
        kl = [trail.kl for trail in trails]
        return Branches(ks, nll, kl, self.layers, trails[0].q, common=kl_u)


def group_sum(kl: Tensor) -> Tensor:
    """(B,) float64 of elements (B, units)."""
    return kl.sum(1, dtype=torch.float64)
