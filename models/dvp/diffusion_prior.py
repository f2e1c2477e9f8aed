"""A variational diffusion prior: a bound on −log p(u), and samples.

Kingma, Salimans, Poole, Ho, "Variational Diffusion Models", NeurIPS 2021 (arXiv 2107.00630), as
the prior of pseudo-inputs in Kuzina and Tomczak 2024 (arXiv 2412.01373).  γ(t) runs linearly from
γ_min to γ_max on t ∈ [0, 1]; α² = sigmoid(−γ), σ² = sigmoid(γ), z_t = α u + σ ε, and a network
predicts ε:
    −log p(u) ≤ L_0 + ∫ L_t dt + L_T
    L_0 = E −log N(u; z_0/α_0, σ_0²/α_0²)       = Σ ½ (ln 2πe + γ_min): no network is in it
    L_t = ½ γ' E ‖ε − ε̂(z_t, t)‖²,  γ' = γ_max − γ_min
    L_T = KL(q(z_1|u) ‖ N(0, I))                 = Σ ½ (α_1² u² + σ_1² − ln σ_1² − 1)

Read in the public code: one t an image in training, T grid points in evaluation, at their right
ends t = i/T.  L_t falls with t, so that the right ends lie below the integral and the sum is no
bound; ours are the midpoints.  Ours too is the control variate: what the optimal predictor of a
Gaussian of the training mean and variance would leave has a known mean over ε, and its deviation
from it is subtracted.  That changes no expectation, and for a Gaussian u it leaves no noise at all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oodbench.models.layers.noise import Noise


class Coordinates(NamedTuple):
    """Mean and variance of u over the training images, each (C, s, s)."""

    mean: Tensor
    variance: Tensor


class Diffusion(nn.Module):
    """p(u) for u (C, s, s) `shape`; `network(z, t)` maps (B, C, s, s), (B,) to ε̂ (B, C, s, s)."""

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, int, int],
        gamma: tuple[float, float],
        steps: int,
    ) -> None:
        super().__init__()
        self.network, self.shape, self.steps = network, shape, steps
        self.low, self.high = gamma

    def gamma(self, t: Tensor) -> Tensor:
        """γ(t), of the shape of t."""
        return self.low + (self.high - self.low) * t

    # ------------------------------------------------------------------ the three terms
    def reconstruction(self) -> float:
        """L_0, nats."""
        return 0.5 * math.prod(self.shape) * (math.log(2 * math.pi * math.e) + self.low)

    def latent(self, u: Tensor) -> Tensor:
        """L_T, nats, (B,) float64."""
        variance = 1.0 / (1.0 + math.exp(-self.high))
        element = (1.0 - variance) * u.double() ** 2 + variance - math.log(variance) - 1.0
        return 0.5 * element.flatten(1).sum(1)

    def denoising(
        self, u: Tensor, eps: Tensor, t: Tensor, reference: Coordinates | None = None
    ) -> Tensor:
        """L_t by one draw of ε (B, C, s, s) at t (B,), nats, (B,) float64.

        With a `reference` its control variate is subtracted.
        """
        gamma = self.gamma(t)[:, None, None, None]
        alpha, sigma = torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()
        element = (eps - self.network(alpha * u + sigma * eps, t)) ** 2
        if reference is not None:
            gain = sigma / (alpha**2 * reference.variance + sigma**2)
            own, other = 1.0 - gain * sigma, gain * alpha * (u - reference.mean)
            element = element - own**2 * (eps**2 - 1.0) + 2.0 * own * other * eps
        total: Tensor = element.flatten(1).sum(1, dtype=torch.float64)
        return 0.5 * (self.high - self.low) * total

    # ------------------------------------------------------------------ bounds
    def training_bound(self, u: Tensor, noise: Noise) -> Tensor:
        """A bound on −log p(u) with one t an image, unbiased, nats, (B,) float64."""
        t = noise.uniform("diffusion t", ())
        middle = self.denoising(u, noise.normal("diffusion", self.shape), t)
        return self.reconstruction() + middle + self.latent(u)

    def draws(self, noise: Noise) -> Tensor:
        """ε of every grid point, (B, T, C, s, s), for `bound`."""
        return noise.normal("diffusion", (self.steps, *self.shape))

    def bound(self, u: Tensor, eps: Tensor, reference: Coordinates | None = None) -> Tensor:
        """A bound on −log p(u), L_t averaged over the T midpoints, nats, (B,) float64."""
        batch, steps = u.shape[0], self.steps
        t = (torch.arange(steps, device=u.device, dtype=u.dtype) + 0.5) / steps
        rows = u.unsqueeze(1).expand(-1, steps, -1, -1, -1).flatten(0, 1)
        middle = self.denoising(rows, eps.flatten(0, 1), t.repeat(batch), reference)
        return self.reconstruction() + middle.view(batch, steps).mean(1) + self.latent(u)

    # ------------------------------------------------------------------ samples
    def sample(self, noise: Noise) -> Tensor:
        """u (B, C, s, s) from T steps of p(z_s|z_t), each with û clamped to [−1, 1]."""
        z = noise.normal("diffusion start", self.shape)
        for step in range(self.steps, 0, -1):
            eps = noise.normal(f"diffusion step {step}", self.shape)
            z = self._step(z, step / self.steps, (step - 1) / self.steps, eps)
        scale = math.exp(0.5 * self.low)
        start = z / math.sqrt(1.0 / (1.0 + math.exp(self.low)))
        return start + scale * noise.normal("diffusion end", self.shape)

    def _step(self, z: Tensor, t: float, s: float, eps: Tensor) -> Tensor:
        """z_s from q(z_s|z_t, û), s < t."""
        times = torch.tensor([t, s], dtype=z.dtype, device=z.device)
        variance, earlier = torch.sigmoid(self.gamma(times))
        alpha, alpha_s = (1.0 - variance).sqrt(), (1.0 - earlier).sqrt()
        predicted: Tensor = self.network(z, times[:1].expand(len(z)))
        u = ((z - variance.sqrt() * predicted) / alpha).clamp(-1.0, 1.0)
        ratio = alpha / alpha_s
        between = variance - ratio**2 * earlier
        mean = (ratio * earlier * z + alpha_s * between * u) / variance
        earlier_z: Tensor = mean + (between * earlier / variance).sqrt() * eps
        return earlier_z
