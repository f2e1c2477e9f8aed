"""What is computed once for many passes: the same numbers, never stale, never without gradient."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from oodbench.models.hierarchical import base
from oodbench.models.hierarchical.config import HVAEConfig
from oodbench.models.layers import fft_convolution
from oodbench.models.layers.weight_norm import Conv2d, WeightNormLayer, weights_kept


@pytest.fixture
def layer() -> Conv2d:
    torch.manual_seed(0)
    made = Conv2d((28, 28), 64, 64, 5)
    assert made.by_spectrum
    return made


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a weight was normalised, and a spectrum taken."""
    count = {"weight": 0, "spectrum": 0}
    normalised, spectrum = WeightNormLayer._normalised, fft_convolution.spectrum

    def counted_weight(self: WeightNormLayer) -> torch.Tensor:
        count["weight"] += 1
        return normalised(self)

    def counted_spectrum(weight: torch.Tensor, size: tuple[int, int]) -> fft_convolution.Spectrum:
        count["spectrum"] += 1
        return spectrum(weight, size)

    monkeypatch.setattr(WeightNormLayer, "_normalised", counted_weight)
    monkeypatch.setattr(fft_convolution, "spectrum", counted_spectrum)
    return count


@torch.no_grad()
def test_a_block_computes_weights_once_and_the_next_one_anew(
    layer: Conv2d, made: dict[str, int]
) -> None:
    x = torch.randn(2, 64, 28, 28)
    plain = layer(x)
    assert made == {"weight": 1, "spectrum": 1}
    with weights_kept():
        assert torch.equal(layer(x), plain)
        with weights_kept():
            assert torch.equal(layer(x), plain)
        assert torch.equal(layer(x), plain)
    assert made == {"weight": 2, "spectrum": 2}
    layer.v.mul_(torch.rand_like(layer.v))
    changed = layer(x)
    assert not torch.equal(changed, plain)
    with weights_kept():
        assert torch.equal(layer(x), changed)


def test_nothing_is_kept_where_a_gradient_is_wanted(layer: Conv2d, made: dict[str, int]) -> None:
    x = torch.randn(1, 64, 28, 28)
    with weights_kept():
        with torch.no_grad():
            layer(x)
        for _ in range(2):
            layer.zero_grad()
            layer(x).sum().backward()
            assert layer.v.grad is not None
    assert made == {"weight": 3, "spectrum": 3}


def test_importance_samples_are_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, made: dict[str, int]
) -> None:
    torch.manual_seed(0)
    stages = [{"kind": "conv", "channels": 32, "kernel": 5, "stride": 1, "blocks": 1}] * 2
    layers = [
        {"stage": stage, "latent": latent}
        for stage, latent in zip(stages, ("c2", "d2"), strict=True)
    ]
    config = HVAEConfig.model_validate({"layers": layers, "likelihood": {"kind": "bernoulli"}})
    model = config.build((1, 16, 16))
    images = (torch.rand(4, 1, 16, 16) < 0.5).to(torch.uint8) * 255
    model.initialise(images)

    def bound() -> torch.Tensor:
        torch.manual_seed(1)
        made.update(weight=0, spectrum=0)
        return model.log_prob(images, samples=5)

    kept = bound()
    weights = sum(isinstance(m, WeightNormLayer) for m in model.modules())
    assert 0 < made["spectrum"] < made["weight"] <= weights
    few = dict(made)
    monkeypatch.setattr(base, "weights_kept", nullcontext)
    assert torch.equal(bound(), kept)
    assert made["weight"] > 2 * few["weight"]
    assert made["spectrum"] > 2 * few["spectrum"]
