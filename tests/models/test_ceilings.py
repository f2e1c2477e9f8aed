"""Ceilings on log p(x|h) against the softmax, and sums by ceilings against the whole sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodbench.models.layers.gaussian import Gaussian
from oodbench.models.layers.noise import FreshNoise
from oodbench.models.vae import conv_vae, importance_bounds
from oodbench.models.vae.config import ConvVAEConfig
from oodbench.models.vae.conv_vae import ConvVAE
from oodbench.models.vae.importance_bounds import LEFT_OUT, Ceiling, log_sum_exp
from oodbench.seeding import KeyedNoise


def layer_of(colours: int, extra: tuple[int, int], scale: float) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(3, 256 * colours, 4, 2, 1, extra, bias=False).requires_grad_(False)
    layer.weight.copy_(scale * torch.randn(layer.weight.shape))
    return layer


def softmax(layer: nn.ConvTranspose2d, h: Tensor, values: Tensor) -> Tensor:
    """log p(x|h) of one image for every h, in double precision."""
    logits = nn.functional.conv_transpose2d(
        h.double(), layer.weight.double(), None, 2, 1, layer.output_padding
    )
    by_value = torch.log_softmax(logits.unflatten(1, (256, -1)), 1).permute(0, 3, 4, 2, 1)
    return by_value.gather(-1, values.expand(len(h), *values.shape)[..., None]).flatten(1).sum(1)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("extra", [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("scale", [0.01, 0.3, 2.0, 30.0])
@pytest.mark.parametrize("away", [0.0, 0.1, 1.0, 10.0])
def test_no_draw_is_above_its_ceiling(
    colours: int, extra: tuple[int, int], scale: float, away: float
) -> None:
    torch.manual_seed(round(10 * scale + away))
    layer = layer_of(colours, extra, scale)
    reference = torch.randn(1, 3, 3, 4)
    values = torch.randint(0, 256, (6 + extra[0], 8 + extra[1], colours))
    h = reference + away * torch.randn(20, 3, 3, 4)
    above = Ceiling(layer, reference, values)(h)
    exact = softmax(layer, h, values)
    assert (above >= exact).all()
    if away == 0.0:
        torch.testing.assert_close(above, exact, atol=0.05, rtol=1e-4)


@pytest.mark.parametrize(("groups", "times"), [(8, 4), (32, 20)])
def test_a_ceiling_is_near_where_neighbouring_values_move_together(
    groups: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Logits that are smooth in the value: within a group they differ little.
    monkeypatch.setattr(importance_bounds, "GROUPS", groups)
    torch.manual_seed(0)
    layer = layer_of(1, (0, 0), 0.0)
    grid = torch.linspace(-1, 1, 256)
    powers = torch.stack([grid, grid**2, grid**3])
    layer.weight.copy_(torch.einsum("iknm,nv->ivkm", torch.randn(3, 4, 3, 4), powers))
    reference = torch.randn(1, 3, 3, 4)
    values = torch.randint(0, 256, (6, 8, 1))
    h = reference + torch.randn(50, 3, 3, 4)
    gap = Ceiling(layer, reference, values)(h) - softmax(layer, h, values)
    first_order = tangent(layer, reference, h, values) - softmax(layer, h, values)
    assert (gap <= first_order + 0.1).all()
    assert gap.mean() < first_order.mean() / times


def tangent(layer: nn.ConvTranspose2d, reference: Tensor, h: Tensor, values: Tensor) -> Tensor:
    """The tangent of log p(x|h) at the reference, by autograd: above it, for log p is concave."""
    at = reference.double().requires_grad_()
    value = softmax(layer, at, values)
    (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach() + ((h - reference) * slope).flatten(1).sum(1)


def test_numbers_beyond_float32_leave_every_draw_in() -> None:
    torch.manual_seed(0)
    layer = layer_of(1, (0, 0), 30.0)
    reference = torch.zeros(1, 3, 3, 4)
    values = torch.randint(0, 256, (6, 8, 1))
    h = torch.stack([torch.full((3, 3, 4), size) for size in (1e4, -1e4, math.inf)])
    above = Ceiling(layer, reference, values)(h)
    assert (above[:2] >= softmax(layer, h[:2], values)).all()
    assert above[2] == math.inf


@pytest.mark.parametrize("spread", [0.0, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("gap", [0.0, 2.0, math.inf])
def test_the_sum_by_ceilings_is_the_sum(spread: float, gap: float) -> None:
    generator = torch.Generator().manual_seed(0)
    w = spread * torch.randn(300, 7, generator=generator, dtype=torch.float64) - 2000
    w[5:, 3] = -math.inf
    room = torch.rand(300, 7, generator=generator, dtype=torch.float64)
    above = torch.full_like(w, math.inf) if gap == math.inf else w + gap * room
    taken: list[tuple[int, int]] = []

    def weights(draws: Tensor, images: Tensor) -> Tensor:
        taken.extend(zip(draws.tolist(), images.tolist(), strict=True))
        return w[draws, images]

    short = torch.logsumexp(w, 0) - log_sum_exp(above, weights)
    assert (short >= -1e-9).all()
    assert (short <= LEFT_OUT + 1e-9).all()
    assert len(set(taken)) == len(taken)
    if spread == 100.0 and gap < 10:
        assert len(taken) < 7 * 16
    if gap == math.inf or spread == 0.0:
        assert len([pair for pair in taken if pair[1] == 0]) == 300


def test_draws_of_no_weight_at_all() -> None:
    nothing = torch.full((40, 2), -math.inf, dtype=torch.float64)
    assert (log_sum_exp(nothing, lambda draws, images: nothing[draws, images]) == -math.inf).all()


def test_a_weight_or_a_ceiling_that_is_no_number_is_not_lost() -> None:
    w = torch.zeros(40, 2, dtype=torch.float64)
    w[39, 1] = math.nan
    found = log_sum_exp(w, lambda draws, images: w[draws, images])
    assert found[0].item() == pytest.approx(math.log(40))
    assert found[1].isnan()


@pytest.fixture
def model() -> ConvVAE:
    torch.manual_seed(0)
    built = ConvVAEConfig(latent=6, width=8, levels=2).build((3, 9, 8))
    with torch.no_grad():
        built.decoder.last.weight.mul_(10)
    return built.eval()


@pytest.mark.parametrize("threshold", [32, 10**9])
def test_an_image_alone_has_the_bound_it_has_in_a_batch(
    model: ConvVAE, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conv_vae, "SCREENED", threshold)
    images = torch.randint(0, 256, (5, 3, 9, 8), dtype=torch.uint8)
    with torch.no_grad():
        q = model.posterior(images)
        whole = model.bound(images, q, KeyedNoise(0, np.arange(5)), 64)
        for row in range(5):
            own = Gaussian(q.mean[row, None], q.scale[row, None])
            alone = model.bound(images[row, None], own, KeyedNoise(0, np.array([row])), 64)
            torch.testing.assert_close(alone[0], whole[row], atol=1e-3, rtol=0)


@pytest.mark.parametrize("width", [0.05, 0.5, 2.0])
def test_the_screened_bound_is_the_bound(
    model: ConvVAE, width: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randint(0, 256, (4, 3, 9, 8), dtype=torch.uint8)
    decoded = []
    whole = ConvVAE.log_likelihood
    monkeypatch.setattr(
        ConvVAE, "log_likelihood",
        lambda self, x, z: (decoded.append(len(z)), whole(self, x, z))[1],
    )  # fmt: skip
    q = Gaussian(torch.randn(4, 6), torch.full((4, 6), width))
    found = {}
    for threshold in (32, 10**9):
        monkeypatch.setattr(conv_vae, "SCREENED", threshold)
        torch.manual_seed(1)
        with torch.no_grad():
            found[threshold] = model.bound(images, q, FreshNoise(4), 400)
    torch.testing.assert_close(found[32], found[10**9], atol=1e-3, rtol=0)
    screened = sum(decoded) - 4 * 400
    # Of draws from a wide posterior few matter.
    assert screened <= 4 * 400
    if width == 2.0:
        assert screened < 4 * 400 / 2


def test_a_gradient_is_taken_through_every_draw(model: ConvVAE) -> None:
    images = torch.randint(0, 256, (2, 3, 9, 8), dtype=torch.uint8)
    mean = torch.zeros(2, 6, requires_grad=True)
    bound = model.bound(images, Gaussian(mean, torch.ones(2, 6)), FreshNoise(2), 40)
    (slope,) = torch.autograd.grad(bound.sum(), mean)
    assert slope.abs().min() > 0
