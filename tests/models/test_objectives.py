"""Schedules and floors against the golden numbers, and the loss against its definition."""

from __future__ import annotations

import pytest
import torch

from oodbench.models.config import FreeBits, HVAEConfig
from oodbench.models.noise import FreshNoise
from oodbench.models.objectives import bits_per_dim, floored_kl, free_nats, warmup_weight


def tiny(objective: dict[str, object]) -> HVAEConfig:
    conv = {"kind": "conv", "channels": 4, "kernel": 3, "stride": 2, "blocks": 1}
    return HVAEConfig.model_validate(
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
