"""The diffusion prior against a Gaussian, for which the optimal predictor is known.

u ~ N(μ, v): ε̂(z, t) = σ (z − α μ) / (α² v + σ²).  The bound is then −log N(u; μ, v) but for three
gaps: the midpoint rule, L_0 (which takes p(u) for flat over e^(γ_min/2)) and L_T (N(0, I) for z_1).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from oodbench.models.dvp.denoiser import Denoiser
from oodbench.models.dvp.diffusion_prior import Coordinates, Diffusion
from oodbench.models.layers.noise import FreshNoise
from oodbench.seeding import KeyedNoise

SHAPE = (1, 7, 7)
GAMMA = (-6.0, 7.0)


class Optimal(torch.nn.Module):
    """ε̂ of N(mean, variance)."""

    def __init__(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.variance = mean, variance

    def forward(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        gamma = (GAMMA[0] + (GAMMA[1] - GAMMA[0]) * t)[:, None, None, None]
        alpha2, sigma2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
        return sigma2.sqrt() * (z - alpha2.sqrt() * self.mean) / (alpha2 * self.variance + sigma2)


def toy(steps: int = 25) -> tuple[Diffusion, Coordinates]:
    generator = torch.Generator().manual_seed(0)
    mean = 0.3 * torch.randn(SHAPE, generator=generator)
    variance = 0.05 + 0.2 * torch.rand(SHAPE, generator=generator)
    return Diffusion(Optimal(mean, variance), SHAPE, GAMMA, steps), Coordinates(mean, variance)


def exact(u: torch.Tensor, of: Coordinates) -> torch.Tensor:
    normal = torch.distributions.Normal(of.mean.double(), of.variance.double().sqrt())
    return -normal.log_prob(u.double()).flatten(1).sum(1)


def drawn(of: Coordinates, count: int) -> torch.Tensor:
    return of.mean + of.variance.sqrt() * torch.randn(
        count, *SHAPE, generator=torch.Generator().manual_seed(1)
    )


def test_the_bound_of_a_gaussian_is_its_negative_log_density() -> None:
    """49 coordinates, T = 25: at most 1 nat above the exact value, and that as the ends say.

    Over u the mean gap is ½ Σ ln(1 + e^(γ_min)/v) of L_0 and KL(p(z_1) ‖ N(0, I)) of L_T; what the
    25 midpoints miss of the integral is below 0.03 nats.
    """
    prior, of = toy()
    u = drawn(of, 2000)
    gap = prior.bound(u, prior.draws(FreshNoise(2000)), of) - exact(u, of)
    assert -0.1 < gap.min() < gap.max() < 1.0
    start = 0.5 * torch.log1p(math.exp(GAMMA[0]) / of.variance).sum()
    alpha2 = 1 / (1 + math.exp(GAMMA[1]))
    end = torch.distributions.Normal(
        math.sqrt(alpha2) * of.mean, (alpha2 * of.variance + 1 - alpha2).sqrt()
    )
    past = torch.distributions.kl_divergence(end, torch.distributions.Normal(0.0, 1.0)).sum()
    assert gap.mean().item() == pytest.approx(float(start + past), abs=0.03)


def test_the_control_variate_changes_no_expectation_and_takes_the_noise() -> None:
    prior, of = toy()
    u = drawn(of, 1).expand(4000, -1, -1, -1)
    eps = prior.draws(FreshNoise(4000))
    plain, controlled = prior.bound(u, eps), prior.bound(u, eps, of)
    # Nothing is left of the noise with the variances of u itself …
    assert controlled.std() < 1e-3 < 1 < plain.std()
    assert plain.mean().item() == pytest.approx(
        controlled.mean().item(), abs=4 * float(plain.std()) / math.sqrt(4000)
    )
    # … and with others the mean stays.
    wrong = Coordinates(of.mean + 0.1, 2 * of.variance)
    other = prior.bound(u, eps, wrong)
    assert controlled.std() < other.std() < plain.std()
    assert other.mean().item() == pytest.approx(
        controlled.mean().item(), abs=4 * float(other.std()) / math.sqrt(4000)
    )


def test_right_ends_of_the_grid_lie_below_the_exact_value() -> None:
    """Why the midpoints: with t = i/T the sum of 25 points is no bound, and 5 nats too small."""
    prior, of = toy()
    u = drawn(of, 200)
    eps = prior.draws(FreshNoise(200))
    middle = torch.stack([
        prior.denoising(u, eps[:, i], torch.full((200,), (i + 1) / 25), of) for i in range(25)
    ]).mean(0)  # fmt: skip
    right = prior.reconstruction() + middle + prior.latent(u)
    gap = (right - exact(u, of)).mean()
    assert -6 < gap < -4, gap


def test_one_t_an_image_has_the_expectation_of_a_fine_grid() -> None:
    prior, of = toy(steps=400)
    u = drawn(of, 1).expand(20_000, -1, -1, -1)
    torch.manual_seed(0)
    one = prior.training_bound(u, FreshNoise(20_000))
    fine = prior.bound(u[:1], prior.draws(FreshNoise(1)), of)
    assert one.mean().item() == pytest.approx(
        fine.item(), abs=4 * float(one.std()) / math.sqrt(20_000)
    )


def test_ends_of_the_bound_by_drawing() -> None:
    """L_0 and L_T as the expectations that they stand for."""
    prior, of = toy()
    u = drawn(of, 1)
    torch.manual_seed(0)
    eps = torch.randn(20_000, *SHAPE)
    low, high = (torch.tensor(g) for g in GAMMA)
    z0 = torch.sigmoid(-low).sqrt() * u + torch.sigmoid(low).sqrt() * eps
    back = torch.distributions.Normal(z0 / torch.sigmoid(-low).sqrt(), (0.5 * low).exp())
    drawn_l0 = -back.log_prob(u).flatten(1).sum(1)
    assert prior.reconstruction() == pytest.approx(
        drawn_l0.mean().item(), abs=4 * float(drawn_l0.std()) / math.sqrt(20_000)
    )
    q = torch.distributions.Normal(torch.sigmoid(-high).sqrt() * u, torch.sigmoid(high).sqrt())
    closed = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum()
    assert prior.latent(u).item() == pytest.approx(closed.item(), rel=1e-4)


def test_samples_have_the_moments_of_the_gaussian() -> None:
    """T = 100 steps with the optimal predictor, u well inside the clamp."""
    mean = torch.linspace(-0.4, 0.4, 49).view(SHAPE)
    variance = torch.full(SHAPE, 0.04)
    prior = Diffusion(Optimal(mean, variance), SHAPE, GAMMA, 100)
    torch.manual_seed(0)
    u = prior.sample(FreshNoise(4000))
    assert (u.mean(0) - mean).abs().max() < 0.02
    assert u.std(0).mean().item() == pytest.approx(0.2, rel=0.05)


def test_samples_and_bounds_of_an_image_are_its_own() -> None:
    """Neither depends on the other rows; an untrained network predicts 0."""
    torch.manual_seed(0)
    prior = Diffusion(Denoiser(1, 8, 1, 0.0), SHAPE, GAMMA, 5).eval()
    assert (prior.network(torch.randn(3, *SHAPE), torch.rand(3)) == 0).all()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
        whole = prior.sample(KeyedNoise(0, np.arange(4)))
        one = prior.sample(KeyedNoise(0, np.array([2])))
        torch.testing.assert_close(whole[2:3], one, rtol=1e-4, atol=1e-4)
        u = torch.randn(4, *SHAPE)
        bound = prior.bound(u, prior.draws(KeyedNoise(0, np.arange(4))))
        own = prior.bound(u[1:2], prior.draws(KeyedNoise(0, np.array([1]))))
        torch.testing.assert_close(bound[1:2], own, rtol=1e-5, atol=1e-3)
