"""The diffusion model against what is known in closed form: Gaussian data, marginals, sums.

x ~ N(μ, v) has the optimal prediction ε̂(z, γ) = σ (z − α μ) / (α² v + σ²), which leaves
E‖ε − ε̂‖² = Σ (1 − g σ)² + (g α (x − μ))², g = σ / (α² v + σ²).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from oodbench.models.denoising.config import DiffusionConfig
from oodbench.models.denoising.diffusion import STEP, DiffusionModel, scaled
from oodbench.models.denoising.schedules import Schedule, alpha, sigma
from oodbench.models.layers.noise import FreshNoise
from oodbench.seeding import KeyedNoise

SHAPE = (1, 3, 3)
LOW, HIGH = -14.0, 14.0


class Optimal(torch.nn.Module):
    """ε̂, or v̂, of N(mean, variance), as a network in the level in [0, 1]."""

    def __init__(self, mean: torch.Tensor, variance: torch.Tensor, kind: str) -> None:
        super().__init__()
        self.mean, self.variance, self.kind = mean, variance, kind

    def forward(self, z: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        gamma = (LOW + (HIGH - LOW) * level)[:, None, None, None]
        a, s = alpha(gamma), sigma(gamma)
        eps = s * (z - a * self.mean) / (a**2 * self.variance + s**2)
        return eps if self.kind == "eps" else (eps - s * z) / a


def gaussian(kind: str = "eps", **settings: object) -> tuple[DiffusionModel, Optimal]:
    generator = torch.Generator().manual_seed(0)
    mean = 0.4 * torch.randn(SHAPE, generator=generator).double()
    variance = 0.05 + 0.2 * torch.rand(SHAPE, generator=generator).double()
    config = DiffusionConfig(
        gamma_min=LOW, gamma_max=HIGH, parametrisation=kind, width=4, **settings  # type: ignore[arg-type]
    )  # fmt: skip
    model, optimal = DiffusionModel(config, SHAPE), Optimal(mean, variance, kind)
    model.network = optimal  # type: ignore[assignment]
    return model, optimal


def drawn(of: Optimal, count: int) -> torch.Tensor:
    eps = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    return of.mean + of.variance.sqrt() * eps


def exact(x: torch.Tensor, of: Optimal, more: float = 0.0) -> torch.Tensor:
    normal = torch.distributions.Normal(of.mean, (of.variance + more).sqrt())
    return normal.log_prob(x).flatten(1).sum(1)


def left(x: torch.Tensor, of: Optimal, gamma: torch.Tensor) -> torch.Tensor:
    """½ E‖ε − ε̂‖² at a level, (B,)."""
    a, s = alpha(gamma), sigma(gamma)
    gain = s / (a**2 * of.variance + s**2)
    return 0.5 * ((1 - gain * s) ** 2 + (gain * a * (x - of.mean)) ** 2).flatten(1).sum(1)


# ------------------------------------------------------------------ levels of noise
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_schedule_rises_between_its_ends(kind: str) -> None:
    schedule = Schedule(kind, -9.0, 8.0)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    gamma = schedule.gamma(t)
    assert (gamma.diff() > 0).all()
    torch.testing.assert_close(gamma[[0, -1]], torch.tensor([-9.0, 8.0], dtype=torch.float64))
    torch.testing.assert_close(alpha(gamma) ** 2 + sigma(gamma) ** 2, torch.ones_like(t))
    np.testing.assert_allclose(schedule.grid(1000), gamma.numpy(), atol=1e-9)
    inner, h = t[1:-1], 1e-6
    slope = (schedule.gamma(inner + h) - schedule.gamma(inner - h)) / (2 * h)
    torch.testing.assert_close(schedule.slope(inner), slope, rtol=1e-5, atol=1e-5)


def test_the_schedules_are_the_published_ones() -> None:
    """The linear one, in 1,000 steps of β from 1e-4 to 0.02; the cosine one, cos πt/2."""
    kept = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
    steps = np.array([50, 200, 500, 800])
    whole = Schedule("linear", -15.9, 15.9)
    t = torch.from_numpy((steps + 1) / 1000)
    first, last = whole._first, whole._last
    found = torch.sigmoid(-whole.gamma((t - first) / (last - first)))
    np.testing.assert_allclose(found.numpy(), kept[steps], rtol=0.05)
    cosine = Schedule("cosine", -16.0, 16.0)
    np.testing.assert_allclose(
        alpha(cosine.gamma(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))).numpy(),
        np.cos(np.pi / 2 * np.array([0.25, 0.5, 0.75])), atol=2e-4,
    )  # fmt: skip


def test_steps_keep_the_forward_marginals() -> None:
    """With the true noise DDIM goes from q(z_t|x) to q(z_s|x) exactly; ancestral steps in law."""
    model, _ = gaussian()
    x = torch.linspace(-1, 1, 9, dtype=torch.float64).view(1, *SHAPE)
    eps = torch.randn(20_000, *SHAPE, generator=torch.Generator().manual_seed(2)).double()
    fresh = torch.randn(20_000, *SHAPE, generator=torch.Generator().manual_seed(3)).double()
    high, low = (torch.tensor(g, dtype=torch.float64) for g in (1.5, -1.0))
    z = model.diffuse(x, eps, high)
    torch.testing.assert_close(z.mean(0), (alpha(high) * x)[0], atol=0.03, rtol=0)
    torch.testing.assert_close(z.std(0), sigma(high).expand(SHAPE), atol=0.02, rtol=0)
    torch.testing.assert_close(model.step(z, 1.5, -1.0, eps, None), model.diffuse(x, eps, low))
    torch.testing.assert_close(
        model.step(model.step(z, 1.5, -1.0, eps, None), -1.0, 1.5, eps, None), z
    )
    down = model.step(z, 1.5, -1.0, eps, fresh)
    torch.testing.assert_close(down.mean(0), (alpha(low) * x)[0], atol=0.03, rtol=0)
    torch.testing.assert_close(down.std(0), sigma(low).expand(SHAPE), atol=0.02, rtol=0)


# ------------------------------------------------------------------ likelihoods
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_the_bound_of_a_gaussian_is_its_negative_log_density(kind: str) -> None:
    """Quadrature of what the optimal network leaves: exact but for the two ends; draws agree."""
    model, optimal = gaussian(kind)
    x = drawn(optimal, 6)
    points = torch.linspace(LOW, HIGH, 20_001, dtype=torch.float64)
    integral = torch.trapezoid(torch.stack([left(x, optimal, g) for g in points], 1), points)
    start = 0.5 * math.prod(SHAPE) * (math.log(2 * math.pi * math.e) + LOW)
    torch.testing.assert_close(
        -(start + integral + model.end(x)), exact(x, optimal), atol=2e-3, rtol=0
    )
    # The estimate of the model, over many draws, is that integral.
    rows = x.repeat_interleave(400, 0)
    gamma, terms = model.terms(rows, KeyedNoise(0, np.arange(len(rows))), 16)
    edges = torch.linspace(LOW, HIGH, 17)
    assert (gamma >= edges[:-1] - 1e-5).all()
    assert (gamma <= edges[1:] + 1e-5).all()
    estimates = (HIGH - LOW) * terms.mean(1).view(6, 400)
    error = (estimates.mean(1) - integral) / (estimates.std(1) / 20)
    assert error.abs().max() < 4


def test_the_probability_flow_has_the_density_of_a_gaussian() -> None:
    model, optimal = gaussian()
    x = drawn(optimal, 5)
    expected = exact(x, optimal, math.exp(LOW))
    torch.testing.assert_close(model.flow_log_density(x, 200), expected, atol=0.08, rtol=0)
    # Sign vectors are exact here, since the Jacobian of ε̂ is diagonal; Heun's error falls as 1/n².
    signs = model.flow_log_density(x, 800, KeyedNoise(0, np.arange(5)))
    torch.testing.assert_close(signs, expected, atol=5e-3, rtol=0)


def test_the_last_term_sums_over_all_256_values() -> None:
    config = DiffusionConfig(width=4, gamma_min=-7.0)
    model = DiffusionModel(config, (3, 4, 4))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, 4, 4), generator=generator, dtype=torch.uint8)
    images[:, 0] = torch.randint(0, 2, (5, 4, 4), generator=generator) * 255
    model.prepare(images, 0)
    noise = KeyedNoise(3, np.arange(5))
    ratio = math.exp(-3.5)
    seen = (scaled(images) + ratio * noise.normal("reconstruction", (3, 4, 4))).double()
    values = torch.arange(256, dtype=torch.float64) * STEP - 1
    weight = -0.5 * ((seen[..., None] - values) / ratio) ** 2
    weight = weight + model.log_frequency.double()[None, :, None, None]
    log_p = torch.log_softmax(weight, -1).gather(-1, images.long()[..., None])
    torch.testing.assert_close(
        model.reconstruction(images, noise), -log_p.flatten(1).sum(1), atol=2e-3, rtol=1e-5
    )
    assert torch.logsumexp(model.log_frequency, 1).abs().max() < 1e-5


# ------------------------------------------------------------------ samples
@pytest.mark.parametrize("ancestral", [True, False])
def test_samples_of_a_gaussian(ancestral: bool) -> None:
    model, optimal = gaussian()
    grid = model.schedule.grid(200)[::-1]
    z = torch.randn(4_000, *SHAPE, generator=torch.Generator().manual_seed(5)).double()
    torch.manual_seed(0)
    found = model.walk(z, grid, FreshNoise(len(z)) if ancestral else None)
    torch.testing.assert_close(found.mean(0), optimal.mean, atol=0.04, rtol=0)
    torch.testing.assert_close(found.var(0), optimal.variance, atol=0, rtol=0.12)


def test_ddim_comes_back_from_where_it_went() -> None:
    model, optimal = gaussian()
    x = drawn(optimal, 8)
    up = model.schedule.grid(400)
    there = model.walk(x, up)
    assert (there.abs() < 5).all()
    torch.testing.assert_close(model.walk(there, up[::-1]), x, atol=0.05, rtol=0)


def test_an_untrained_network_predicts_nothing_at_any_size() -> None:
    for shape in ((1, 7, 9), (3, 8, 8)):
        config = DiffusionConfig(width=8, multipliers=(1, 2), patch=2, fourier=(3,), attention=True)
        model = DiffusionModel(config, shape)
        z = torch.randn(2, *shape)
        assert model.predict(z, torch.tensor([-3.0, 2.0])).abs().max() == 0
    with pytest.raises(ValueError, match="width must be even"):
        DiffusionConfig(width=5)
