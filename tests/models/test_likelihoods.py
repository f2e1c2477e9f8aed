"""Discretised likelihoods are probabilities: they sum to one, and their gradients are exact."""

from __future__ import annotations

import math

import pytest
import torch

from oodbench.models.layers.likelihoods import (
    Bernoulli,
    Gaussian,
    LikelihoodHead,
    Logistic,
    LogisticMixture,
    log_logistic_mass,
)
from oodbench.models.layers.noise import FreshNoise


def parameters_for(head: LikelihoodHead, batch: int, spread: float) -> torch.Tensor:
    torch.manual_seed(0)
    return spread * torch.randn(batch, head.per_pixel, 1, 1)


@pytest.mark.parametrize("spread", [0.3, 1.0, 8.0])
@pytest.mark.parametrize("tail", ["exact", "published"])
def test_logistic_sums_to_one_over_all_pixel_values(spread: float, tail: str) -> None:
    head = Logistic((4, 1, 1), (1, 1, 1), tail=tail)
    values = torch.arange(256).view(256, 1, 1, 1) / 255.0
    for row in parameters_for(head, 20, spread):
        log_p = head.log_prob(row.expand(256, -1, 1, 1), values)
        expected = 1.0 if tail == "exact" else 1.0 + 256e-7
        assert log_p.exp().sum().item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("tail", "tolerance"), [("exact", 2e-5), ("published", 2e-2)])
def test_grey_mixture_sums_to_one(spread: float, tail: str, tolerance: float) -> None:
    head = LogisticMixture((4, 1, 1), (1, 1, 1), components=5, tail=tail)
    values = torch.arange(256).view(256, 1, 1, 1) / 255.0
    for row in parameters_for(head, 20, spread):
        log_p = head.log_prob(row.expand(256, -1, 1, 1), values)
        assert log_p.exp().sum().item() == pytest.approx(1.0, abs=tolerance)


def test_colour_mixture_sums_to_one_over_each_colour_given_the_earlier_ones() -> None:
    """p(r, g, b) = p(r) p(g|r) p(b|r, g): brute-force sums over g and b leave p(r)."""
    head = LogisticMixture((4, 1, 1), (3, 1, 1), components=3)
    parameters = parameters_for(head, 1, 1.0)
    levels = torch.arange(256) / 255.0
    joint = torch.stack(
        torch.meshgrid(levels, levels[::51], levels[::51], indexing="ij"), dim=-1
    ).reshape(-1, 3, 1, 1)
    # Σ over blue for fixed (red, green), and Σ over green of that for fixed red, by brute force.
    for red in (0.0, 100 / 255.0, 1.0):
        grid = torch.stack(torch.meshgrid(levels, levels, indexing="ij"), dim=-1).reshape(-1, 2)
        x = torch.cat([torch.full((len(grid), 1), red), grid], dim=1).view(-1, 3, 1, 1)
        marginal = head.log_prob(parameters.expand(len(x), -1, 1, 1), x).exp().sum()
        grey = LogisticMixture((4, 1, 1), (1, 1, 1), components=3)
        k = 3
        red_only = torch.cat(
            [parameters[:, :k], parameters[:, k : 2 * k], parameters[:, 4 * k : 5 * k]], dim=1
        )
        p_red = grey.log_prob(red_only, torch.full((1, 1, 1, 1), red)).exp()
        assert marginal.item() == pytest.approx(p_red.item(), rel=1e-4)
    assert joint.shape[1] == 3


def test_mass_agrees_with_the_plain_difference_where_that_is_exact() -> None:
    lower = torch.linspace(-8, 8, 101, dtype=torch.float64)
    width = torch.full_like(lower, 0.7)
    none = torch.zeros_like(lower, dtype=torch.bool)
    direct = torch.log(torch.sigmoid(lower + width) - torch.sigmoid(lower))
    torch.testing.assert_close(log_logistic_mass(lower, width, none, none), direct)


def test_mass_far_in_the_tail_keeps_its_slope() -> None:
    """At 60 scales from the mean the plain difference is 0 in float32; the true log is −60 + …"""
    lower = torch.tensor([60.0])
    width = torch.tensor([0.5])
    none = torch.tensor([False])
    expected = -60.0 + math.log(1 - math.exp(-0.5))
    assert log_logistic_mass(lower, width, none, none).item() == pytest.approx(expected, rel=1e-6)


def test_mass_gradient() -> None:
    torch.manual_seed(0)
    lower = torch.randn(40, dtype=torch.float64, requires_grad=True)
    width = (torch.rand(40, dtype=torch.float64) + 0.05).requires_grad_()
    first = torch.arange(40) % 7 == 0
    last = torch.arange(40) % 5 == 1
    assert torch.autograd.gradcheck(
        lambda a, w: log_logistic_mass(a, w, first, last & ~first), (lower, width)
    )


def test_published_and_exact_agree_where_no_tail_is_met() -> None:
    torch.manual_seed(1)
    x = torch.randint(0, 256, (16, 3, 4, 4)) / 255.0
    exact = LogisticMixture((8, 4, 4), (3, 4, 4), 4, tail="exact")
    published = LogisticMixture((8, 4, 4), (3, 4, 4), 4, tail="published")
    parameters = 0.1 * torch.randn(16, exact.per_pixel, 4, 4)
    torch.testing.assert_close(
        exact.log_prob(parameters, x), published.log_prob(parameters, x), rtol=1e-4, atol=1e-2
    )


def test_bernoulli_is_binary_cross_entropy() -> None:
    head = Bernoulli((4, 2, 2), (1, 2, 2))
    logits = torch.randn(5, 1, 2, 2)
    x = (torch.rand(5, 1, 2, 2) < 0.5).float()
    p = torch.sigmoid(logits)
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)).double()
    torch.testing.assert_close(head.log_prob(logits, x), expected, rtol=1e-5, atol=1e-5)


def test_binarisation_draws_with_probability_x_over_255() -> None:
    torch.manual_seed(0)
    head = Bernoulli((4, 1, 1), (1, 1, 1))
    images = torch.full((20000, 1, 1, 1), 51, dtype=torch.uint8)
    assert head.observe(images, FreshNoise(20000)).mean().item() == pytest.approx(0.2, abs=0.01)


def test_gaussian_counts_eight_bit_values() -> None:
    """The normal density of (x + u)/256, less ln 256 per number."""
    head = Gaussian((4, 1, 1), (1, 1, 1))
    with torch.no_grad():
        head.log_sigma.fill_(math.log(0.1))
    mean = torch.full((1, 1, 1, 1), 0.4)
    x = torch.full((1, 1, 1, 1), 0.55)
    normal = torch.distributions.Normal(0.4, 0.1).log_prob(torch.tensor(0.55)).item()
    assert head.log_prob(mean, x).item() == pytest.approx(normal - math.log(256), rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("kind", [Logistic, LogisticMixture])
def test_samples_follow_the_probabilities(
    kind: type[LikelihoodHead], shape: tuple[int, int, int]
) -> None:
    """The mean log-probability of draws equals minus the entropy estimated from other draws."""
    torch.manual_seed(0)
    head = kind((4, *shape[1:]), shape)  # type: ignore[arg-type]
    parameters = 0.5 * torch.randn(1, head.per_pixel, *shape[1:])
    n = 4000
    noise = FreshNoise(n)
    draws = head.sample(parameters.expand(n, -1, -1, -1), noise)
    assert draws.dtype == torch.uint8
    assert draws.shape == (n, *shape)
    # Frequencies of the red (or only) channel of one pixel against its exact probabilities.
    values = torch.arange(256).view(256, 1, 1, 1).expand(256, *shape) / 255.0
    if shape[0] == 1:
        elements = head.log_prob_elements(parameters.expand(256, -1, -1, -1), values)
        p = elements.reshape(256, -1, *shape[1:])[:, 0, 0, 0].exp()
        expected = (p * torch.arange(256)).sum().item()
        spread = math.sqrt(((p * torch.arange(256) ** 2).sum() - expected**2).item() / n)
        assert draws[:, 0, 0, 0].float().mean().item() == pytest.approx(
            expected, abs=5 * spread + 0.5
        )
