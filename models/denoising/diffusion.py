"""A diffusion model of 8-bit images: a bound on log p(x), paths through noise levels, samples.

With x scaled to [−1, 1] and z = α x + σ ε at the noise level γ = log σ²/α² (Kingma, Salimans,
Poole, Ho 2021, arXiv 2107.00630; `oodbench.models.denoising.schedules`):
    −log p(x) ≤ L_0 + ½ ∫ E‖ε − ε̂(z, γ)‖² dγ + L_T                        nats per image
    L_0 = E −log p(x|z_0),  p(x|z_0) ∝ Π_i π(x_i) N(z_0,i; α_0 x_i, σ_0²) over the 256 values
    L_T = KL(q(z_1|x) ‖ N(0, I)) = ½ Σ (α_1² x² + σ_1² − ln σ_1² − 1)
π are the frequencies of the values in the training images, per colour (uniform until `prepare`):
so the least noise need not be far below a grey level (there π is uniform in the paper).  The
integral is the mean over S levels, one drawn in each of S equal parts of [γ_min, γ_max], which is
unbiased for every S; the schedule is no part of it.

In the coordinates u = z/α = x + s ε, s = σ/α, the probability-flow path (Song et al. 2021) is
du/ds = ε̂, whose Euler steps are DDIM's (Song, Meng, Ermon 2021).  Along it
    log p(u_0) = log N(u_1; 0, 1/α_1²) + ∫ div_u ε̂ ds
is the density of images with the least noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from oodbench.models.denoising.schedules import Schedule, alpha, sigma
from oodbench.models.denoising.unet import UNet
from oodbench.models.layers.noise import FreshNoise, Noise

if TYPE_CHECKING:
    from oodbench.models.denoising.config import DiffusionConfig

#: Half a window of values around z_0/α_0, in σ_0/α_0: what lies outside weighs below e^−50.
WINDOW = 12.0
#: Images of a batch of which L_0 and L_T are logged.
WATCHED = 8
#: Two grey levels in [−1, 1] are so far apart.
STEP = 2.0 / 255.0


class DiffusionModel(nn.Module):
    """The model for images of `shape` (C, H, W)."""

    def __init__(self, config: DiffusionConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        self.low, self.high = config.gamma_min, config.gamma_max
        self.schedule = Schedule(config.schedule, self.low, self.high)
        self.network = UNet(config, shape[0])
        self.register_buffer("log_frequency", torch.full((shape[0], 256), -math.log(256.0)))
        self.log_frequency: Tensor

    # ------------------------------------------------------------------ the network
    def predict(self, z: Tensor, gamma: Tensor) -> Tensor:
        """ε̂ (B, C, H, W) of z (B, C, H, W) at the levels γ (B,)."""
        out: Tensor = self.network(z, (gamma - self.low) / (self.high - self.low))
        if self.config.parametrisation == "eps":
            return out
        g = gamma[:, None, None, None]
        return sigma(g) * z + alpha(g) * out

    def diffuse(self, x: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        """z = α x + σ ε at γ (B,) or ()."""
        g = gamma.view(-1, 1, 1, 1)
        return alpha(g) * x + sigma(g) * eps

    def level(self, gamma: float, like: Tensor) -> Tensor:
        """γ (B,) of every image of `like`."""
        return like.new_full((len(like),), gamma)

    # ------------------------------------------------------------------ the bound
    def denoising(self, x: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        """½‖ε − ε̂‖², (B,) float64: nats per unit of γ, of x (B, C, H, W) at γ (B,)."""
        error = eps - self.predict(self.diffuse(x, eps, gamma), gamma)
        return 0.5 * (error**2).flatten(1).sum(1, dtype=torch.float64)

    def levels(self, noise: Noise, samples: int) -> Tensor:
        """(B, S) ascending: one γ, uniform, in each of S equal parts of its range."""
        u = noise.uniform("level", (samples,))
        parts = torch.arange(samples, device=u.device, dtype=u.dtype)
        return self.low + (self.high - self.low) * (parts + u) / samples

    def terms(self, x: Tensor, noise: Noise, samples: int) -> tuple[Tensor, Tensor]:
        """γ (B, S) and ½‖ε − ε̂‖² there (B, S) float64, of x in [−1, 1] (B, C, H, W)."""
        gammas = self.levels(noise, samples)
        found = []
        for place in range(samples):
            eps = noise.normal(f"eps {place}", tuple(x.shape[1:]))
            found.append(self.denoising(x, eps, gammas[:, place]))
        return gammas, torch.stack(found, dim=1)

    def end(self, x: Tensor) -> Tensor:
        """L_T, nats, (B,) float64."""
        variance = 1.0 / (1.0 + math.exp(-self.high))
        element = (1.0 - variance) * x.double() ** 2 + variance - math.log(variance) - 1.0
        return 0.5 * element.flatten(1).sum(1)

    @torch.no_grad()
    def reconstruction(self, images: Tensor, noise: Noise) -> Tensor:
        """L_0 by one draw of z_0, nats, (B,) float64, of uint8 images."""
        ratio = math.exp(0.5 * self.low)  # σ_0/α_0
        eps = noise.normal("reconstruction", tuple(images.shape[1:]))
        seen = scaled(images) + ratio * eps  # z_0/α_0
        nearest = ((seen + 1.0) / STEP).round()
        half = min(255, math.ceil(WINDOW * ratio / STEP))
        total = torch.full_like(seen, -math.inf)
        for offset in range(-half, half + 1):
            value = nearest + offset
            total = torch.logaddexp(total, self._weight(value, seen, ratio))
        own = self._weight(images.float(), seen, ratio)
        # Where no value stands within the window, the image's own goes without saying.
        element = own - torch.maximum(total, own)
        return -element.flatten(1).sum(1, dtype=torch.float64)

    def _weight(self, value: Tensor, seen: Tensor, ratio: float) -> Tensor:
        """log π(v) N(z_0/α_0; v, ratio²) but for a constant; −∞ where v is no grey level."""
        inside = value.clamp(0, 255)
        place = inside.long().transpose(0, 1).flatten(1)
        frequency = torch.gather(self.log_frequency, 1, place)
        prior = frequency.view(value.shape[1], value.shape[0], *value.shape[2:]).transpose(0, 1)
        found = prior - 0.5 * ((seen + 1.0 - STEP * inside) / ratio) ** 2
        return torch.where(value == inside, found, -math.inf)

    def log_prob(self, images: Tensor, noise: Noise | None = None, samples: int = 1) -> Tensor:
        """The bound on log p(x) of uint8 images with S = `samples` levels, nats, (B,) float64."""
        noise = noise or FreshNoise(len(images), images.device)
        x = scaled(images)
        _, terms = self.terms(x, noise, samples)
        integral = (self.high - self.low) * terms.mean(1)
        return -(self.reconstruction(images, noise) + integral + self.end(x))

    # ------------------------------------------------------------------ training
    @torch.no_grad()
    def prepare(self, images: Tensor, seed: int) -> None:
        """π: the frequencies of the 256 values in the training images, one added to each."""
        for colour in range(self.shape[0]):
            counts = torch.bincount(images[:, colour].flatten().long(), minlength=256) + 1
            self.log_frequency[colour] = torch.log(counts / counts.sum())

    def initialise(self, images: Tensor) -> None:
        """Nothing depends on a first batch."""

    def loss(self, images: Tensor, epoch: int) -> dict[str, Tensor]:
        """The negative bound, or the plain mean of squared errors, nats per image."""
        noise = FreshNoise(len(images), images.device)
        x = scaled(images)
        eps = noise.normal("eps", tuple(x.shape[1:]))
        # One level in each of B parts of the range: every batch sees all of them.
        parts = torch.arange(len(x), device=x.device)
        t = (parts + noise.uniform("level", ())) / len(x)
        if self.config.objective == "bound":
            gamma = self.low + (self.high - self.low) * t
            slope = torch.ones_like(t)
        else:
            gamma = self.schedule.gamma(t)
            slope = self.schedule.slope(t) / (self.high - self.low)
        error = (self.high - self.low) * self.denoising(x, eps, gamma)
        with torch.no_grad():  # no weight is in these terms: of a few images they are known enough
            few = images[:WATCHED]
            fixed = self.reconstruction(few, FreshNoise(len(few), x.device)) + self.end(x[:WATCHED])
            bound = fixed.mean() + (slope * error).mean()
        loss = error.mean() + (fixed.mean() if self.config.objective == "bound" else 0.0)
        return {"loss": loss, "elbo": -bound}

    # ------------------------------------------------------------------ paths
    def step(self, z: Tensor, gamma: float, to: float, eps: Tensor, fresh: Tensor | None) -> Tensor:
        """z at the level `to` from z at `gamma` and the predicted noise `eps` (B, C, H, W).

        Without `fresh`: DDIM, one Euler step of the probability flow, up or down.  With fresh
        N(0, 1): a draw from q(z_to | z, x̂), the ancestral step; `to` < `gamma` then.
        """
        a, s = _pair(gamma)
        a_to, s_to = _pair(to)
        x = (z - s * eps) / a
        if fresh is None:
            return a_to * x + s_to * eps
        kept = math.exp(to - gamma)  # s_to²/s² in the coordinates u
        mean = a_to * (kept * z / a + (1.0 - kept) * x)
        return mean + s_to * math.sqrt(1.0 - kept) * fresh

    def walk(
        self,
        z: Tensor,
        grid: Sequence[float],
        noise: Noise | None = None,
        change: Callable[[Tensor, float], Tensor] | None = None,
    ) -> Tensor:
        """z at the last level of `grid` from z at its first; ancestral with `noise`, else DDIM.

        `change(z, γ)` is applied after every step, such as to paint over known pixels.
        """
        for place, (gamma, to) in enumerate(pairwise(grid)):
            eps = self.predict(z, self.level(gamma, z))
            fresh = None
            if noise is not None:
                fresh = noise.normal(f"step {place}", tuple(z.shape[1:]))
            z = self.step(z, gamma, to, eps, fresh)
            if change is not None:
                z = change(z, to)
        return z

    def clean(self, z: Tensor, gamma: float) -> Tensor:
        """x̂ (B, C, H, W) in [−1, 1] of z at γ."""
        a, s = _pair(gamma)
        x: Tensor = (z - s * self.predict(z, self.level(gamma, z))) / a
        return x.clamp(-1.0, 1.0)

    @torch.no_grad()
    def sample(
        self, n: int, noise: Noise | None = None, steps: int | None = None, ancestral: bool = True
    ) -> Tensor:
        """n images (n, C, H, W) uint8 by `steps` ancestral or DDIM steps along the schedule."""
        noise = noise or FreshNoise(n, self.log_frequency.device)
        grid = self.schedule.grid(steps or self.config.sample_steps)[::-1]
        z = noise.normal("start", self.shape)
        z = self.walk(z, grid, noise.scope("down") if ancestral else None)
        values = (self.clean(z, grid[-1]) + 1.0) / STEP
        return values.round().clamp(0, 255).to(torch.uint8)

    # ------------------------------------------------------------------ the flow's density
    def flow_log_density(
        self, u: Tensor, steps: int, noise: Noise | None = None, probes: int = 1
    ) -> Tensor:
        """log p of u = x + s_0 ε along the probability flow, nats of [−1, 1]^D, (B,) float64.

        Heun's rule at `steps` equal parts of γ.  The divergence is exact, one product with the
        Jacobian a dimension; with `noise` it is Hutchinson's estimate from `probes` sign vectors.
        """
        signs = None
        if noise is not None:
            signs = noise.uniform("signs", (probes, *u.shape[1:])) < 0.5
            signs = 1.0 - 2.0 * signs.to(u.dtype)
        width = (self.high - self.low) / steps
        total = u.new_zeros(len(u), dtype=torch.float64)
        for place in range(steps):
            here, there = (self.low + width * (place + i) for i in (0, 1))
            s, s_to = math.exp(0.5 * here), math.exp(0.5 * there)
            slope, spread = self.flow(u, here, signs)
            ahead, spread_ahead = self.flow(u + (s_to - s) * slope, there, signs)
            total = total + 0.5 * (s_to - s) * (spread + spread_ahead)
            u = u + 0.5 * (s_to - s) * (slope + ahead)
        a = _pair(self.high)[0]
        constant = 0.5 * math.prod(self.shape) * math.log(2.0 * math.pi / a**2)
        end: Tensor = -0.5 * ((a * u) ** 2).flatten(1).sum(1, dtype=torch.float64) - constant
        return total + end

    def flow(self, u: Tensor, gamma: float, signs: Tensor | None) -> tuple[Tensor, Tensor]:
        """ε̂ at u = z/α (B, C, H, W) and γ, and its divergence in u, (B,) float64.

        The divergence is exact without `signs`, else Hutchinson's estimate from these random sign
        vectors (B, probes, C, H, W).
        """
        a = _pair(gamma)[0]

        def slope(point: Tensor) -> Tensor:
            return self.predict(a * point, self.level(gamma, point))

        if signs is None:
            dims = u[0].numel()
            basis = torch.eye(dims, dtype=u.dtype, device=u.device)
            signs = basis.view(1, dims, *u.shape[1:]).expand(len(u), *[-1] * u.dim())
            share = 1.0
        else:
            share = 1.0 / signs.shape[1]
        total = u.new_zeros(len(u), dtype=torch.float64)
        value, back = torch.func.vjp(slope, u)[:2]
        for probe in signs.unbind(1):
            across = back(probe)[0]
            total = total + share * (across * probe).flatten(1).sum(1, dtype=torch.float64)
        return value, total


def scaled(images: Tensor) -> Tensor:
    """x in [−1, 1] of uint8 images, float32."""
    return images.float() * STEP - 1.0


def _pair(gamma: float) -> tuple[float, float]:
    """α and σ at γ."""
    return math.sqrt(1.0 / (1.0 + math.exp(gamma))), math.sqrt(1.0 / (1.0 + math.exp(-gamma)))
