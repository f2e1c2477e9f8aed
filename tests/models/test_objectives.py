"""Schedules and floors against the golden numbers, and the loss against its definition."""

from __future__ import annotations

import pytest
import torch

from oodbench.models.hierarchical.config import BIVAConfig, FreeBits, HVAEConfig, LVAEConfig
from oodbench.models.hierarchical.objectives import (
    bits_per_dim,
    floored_kl,
    free_nats,
    warmup_weight,
)
from oodbench.models.layers.noise import FreshNoise

Config = HVAEConfig | LVAEConfig | BIVAConfig
KINDS = (HVAEConfig, LVAEConfig, BIVAConfig)


def tiny(objective: dict[str, object], kind: type[Config] = HVAEConfig) -> Config:
    conv = {"kind": "conv", "channels": 4, "kernel": 3, "stride": 2, "blocks": 1}
    return kind.model_validate(
        {
            "layers": [
                {"stage": conv, "latent": "c2"},
                {"stage": conv, "latent": "d3"},
                {"stage": {**conv, "stride": 1}, "latent": "d2"},
            ],
            "likelihood": {"kind": "logistic"},
            "objective": objective,
        }
    )


@pytest.mark.parametrize(("epoch", "weight"), [(1, 0.005), (100, 0.5), (200, 1.0), (201, 1.0)])
def test_warmup(epoch: int, weight: float) -> None:
    assert warmup_weight(epoch, 200) == pytest.approx(weight)
    assert warmup_weight(epoch, 0) == 1.0


@pytest.mark.parametrize(
    ("epoch", "nats"), [(1, 2), (200, 2), (201, 2), (300, 1.00503), (400, 0), (401, 0)]
)
def test_free_nats(epoch: int, nats: float) -> None:
    assert free_nats(epoch, FreeBits()) == pytest.approx(nats, abs=5e-6)


def test_hvk_floor_of_a_conv_latent_is_the_budget_at_every_pixel() -> None:
    """c8 at 14×14 with 2 nats: 392 nats in all, not 2."""
    element = torch.zeros(3, 8, 14, 14)
    assert floored_kl(element, 2.0, FreeBits()).tolist() == pytest.approx([392.0] * 3)


def test_layer_floor_is_on_the_batch_mean_of_the_layer() -> None:
    element = torch.tensor([[0.5, 0.25], [3.0, 1.0]])
    settings = FreeBits(kind="layer")
    assert floored_kl(element, 2.0, settings).item() == pytest.approx(2.375)
    assert floored_kl(element, 3.0, settings).item() == pytest.approx(3.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("free_bits", ["hvk", "layer"])
def test_after_the_cool_down_the_loss_is_minus_the_elbo(kind: type[Config], free_bits: str) -> None:
    """log w of the same draws is log p(x, z) − log q(z|x): its mean is what −loss must be."""
    torch.manual_seed(0)
    settings = {"kind": free_bits, "constant_epochs": 2, "falling_epochs": 2}
    objective = {"kind": "elbo", "warmup_epochs": 4, "free_bits": settings}
    model = tiny(objective, kind).build((1, 16, 16))
    images = torch.randint(0, 256, (16, 1, 16, 16), dtype=torch.uint8)
    model.initialise(images)
    negative = 0
    for epoch in (4, 5, 100):
        torch.manual_seed(epoch)
        loss = float(model.loss(images, epoch)["loss"].detach())
        torch.manual_seed(epoch)
        if free_bits == "hvk":
            bound = float(model.log_prob(images, samples=1).mean())
        else:
            noise = FreshNoise(16)
            x = model.likelihood.observe(images, noise)
            bound = float(model.branches(x, noise, kl="analytic").elbo().mean().detach())
        assert loss == pytest.approx(-bound, rel=1e-9)
        torch.manual_seed(epoch)
        noise = FreshNoise(16)
        out = model.branches(model.likelihood.observe(images, noise), noise)
        negative += sum(int((element < 0).sum()) for element in out.kl[0].values())
    assert negative > 100, "without negative elements a maximum with 0 would go unseen"


@pytest.mark.parametrize("kind", KINDS)
def test_a_positive_floor_is_the_published_rule(kind: type[Config]) -> None:
    """β Σ max(log q − log p, λ/C) over the elements of every latent, in a plain loop."""
    torch.manual_seed(0)
    settings = {"kind": "hvk", "nats": 0.4, "constant_epochs": 4, "falling_epochs": 4}
    objective = {"kind": "elbo", "warmup_epochs": 10, "free_bits": settings}
    model = tiny(objective, kind).build((1, 8, 8))
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    model.initialise(images)
    torch.manual_seed(1)
    loss = float(model.loss(images, epoch=6)["loss"].detach())
    torch.manual_seed(1)
    noise = FreshNoise(5)
    out = model.branches(model.likelihood.observe(images, noise), noise)
    channels = {0: 2, 1: 3, 2: 2}
    penalty = 0.0
    for index, element in out.kl[0].items():
        floor = 0.4 * (1 - 1 / 3) / channels[index]
        penalty += sum(max(value, floor) for value in element.flatten().tolist())
    expected = float(out.nll.mean().detach()) + 0.6 * penalty / 5
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("nats", "dims", "bits"), [(1590, 784, 2.9259), (1909.1, 784, 3.5131)])
def test_bits_per_dim(nats: float, dims: int, bits: float) -> None:
    assert bits_per_dim(nats, dims) == pytest.approx(bits, abs=5e-5)


def test_informative_loss_is_its_definition() -> None:
    """(1/L) Σ_k NLL_k + Σ_l KL_l with every NLL_k decoded on its own, one branch at a time."""
    torch.manual_seed(0)
    model = tiny({"kind": "informative", "lower": "mode"}).build((1, 8, 8))
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    model.initialise(images)
    torch.manual_seed(1)
    logged = model.loss(images, epoch=1)
    torch.manual_seed(1)
    x = model.likelihood.observe(images, FreshNoise(6))
    encoding = model.encode(x, FreshNoise(6), (0, 1, 2))
    nll, kl = [], torch.zeros(())
    for k in (0, 1, 2):
        out = model.branches(x, FreshNoise(6), (k,), lower="mode", kl="analytic",
                             encoding=type(encoding)([[q[k]] for q in encoding.q],
                                                     [[z[k]] for z in encoding.z]))  # fmt: skip
        nll.append(out.nll.mean())
        if k == 0:
            kl = out.kl_layers().sum(-1).mean()
    expected = torch.stack(nll).mean() + kl
    torch.testing.assert_close(logged["loss"], expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "elbo", "warmup_epochs": 10, "free_bits": {"kind": "hvk"}},
        {"kind": "elbo", "free_bits": {"kind": "layer", "nats": 3}},
        {"kind": "informative", "warmup_epochs": 4, "free_bits": {"kind": "layer"}},
    ],
)
def test_every_objective_gives_finite_gradients_everywhere(objective: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = tiny(objective).build((1, 8, 8))
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    model.initialise(images)
    model.loss(images, epoch=3)["loss"].backward()
    for name, parameter in model.named_parameters():
        if name.startswith("stages.2.q_projection"):
            continue  # the published model has it on the top layer too, where nothing uses it
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
