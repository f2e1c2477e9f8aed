"""The simplex witness against closed forms, golden numbers and the published table."""

from __future__ import annotations

import csv
from importlib.resources import files

import pytest
import torch
from torch import Tensor

from oodbench.models.hierarchical.config import TeacherSettings, WitnessSettings
from oodbench.models.hierarchical.simplex_witness import (
    Certificate,
    centred_log_odds,
    certificate,
    divergence,
    log_readout,
    minimum_code,
    simplex,
    smoothed,
    teacher_energy,
    teacher_information,
)
from oodbench.models.hierarchical.witness_teacher import Witness

K, EPSILON, GAIN = 10, 0.05, 5.0


def random_teacher(seed: int, count: int = 40, components: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, components, generator=generator, dtype=torch.float64)
    return smoothed(torch.softmax(logits, dim=1), 0.03)


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize("components", [2, 3, 10, 31])
def test_the_simplex_is_regular(components: int, more: int) -> None:
    vertices = simplex(components, components - 1 + more)
    gram = torch.full((components, components), -1.0 / (components - 1), dtype=torch.float64)
    gram.fill_diagonal_(1.0)
    torch.testing.assert_close(vertices @ vertices.T, gram, atol=1e-12, rtol=0)
    torch.testing.assert_close(vertices.sum(0), torch.zeros_like(vertices[0]), atol=1e-12, rtol=0)


def test_a_simplex_needs_room() -> None:
    with pytest.raises(ValueError, match=r"10 components needs .* 9 units; there are 8"):
        simplex(10, 8)
    with pytest.raises(ValueError, match="2 or more"):
        simplex(1, 8)


def test_golden_numbers_of_a_one_hot_teacher() -> None:
    target = smoothed(torch.eye(K), EPSILON)
    vertices = simplex(K, 12)
    code = minimum_code(target, vertices, GAIN)
    assert teacher_energy(target) == pytest.approx(24.8277, abs=5e-5)
    assert teacher_information(target) == pytest.approx(2.02019, abs=5e-6)
    assert (code**2).sum(1) == pytest.approx(torch.full((K,), 0.893799), abs=5e-7)
    prediction = log_readout(code, vertices, GAIN)
    assert (prediction.exp() - target).abs().max() < 1e-12
    found = certificate(target, prediction, GAIN)
    assert found.energy == pytest.approx(0.446899, abs=5e-7)
    assert found.energy == pytest.approx(float(0.5 * (code**2).sum(1).mean()), rel=1e-12)
    assert found.gap == pytest.approx(found.information, abs=1e-12)


def test_the_gaps_of_the_published_table() -> None:
    """G_T = I_T − L_TS to the printed digits, and only the VAE's mean is not certified."""
    text = (files("oodbench.reference") / "rst_vae_mnist.csv").read_text()
    printed: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        printed.setdefault(row["model"], {})[row["metric"]] = float(row["value"])
    for model, row in printed.items():
        ours = Certificate(K, row["I_T_nats"], row["L_TS_nats"], 0.0)
        assert ours.gap == pytest.approx(row["G_T_nats"], abs=1.0001e-4)
        assert ours.certified == (model != "VAE")


@pytest.mark.parametrize("seed", range(5))
def test_no_constant_beats_the_mean_of_the_teacher(seed: int) -> None:
    """E KL(T_x ‖ c) = I_T + KL(T̄ ‖ c)."""
    target = random_teacher(seed)
    information, average = teacher_information(target), target.mean(0, keepdim=True)
    for other in range(20):
        constant = random_teacher(100 + other, 1)
        loss = float(divergence(target, constant.log()).mean())
        excess = float(divergence(average, constant.log()))
        assert loss == pytest.approx(information + excess, rel=1e-12)
        assert loss >= information
    assert float(divergence(target, average.log()).mean()) == pytest.approx(information)


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_mean_is_never_certified(seed: int) -> None:
    target = random_teacher(seed)
    mean = torch.randn(8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    prediction = log_readout(mean.expand(len(target), 8), simplex(6, 8), GAIN)
    assert not certificate(target, prediction, GAIN).certified


def test_rounding_certifies_nothing() -> None:
    """Constant means whose readout is T̄, where G_T is exactly 0: rounding alone is left of it."""
    positive, vertices = 0, simplex(6, 5)
    for seed in range(100):
        target = random_teacher(seed, count=30)
        mean = minimum_code(target.mean(0, keepdim=True), vertices, GAIN).expand(30, 5)
        found = certificate(target, log_readout(mean, vertices, GAIN), GAIN)
        assert abs(found.gap) < 1e-14
        assert not found.certified
        positive += found.gap > 0
    assert positive > 0, "no gap of rounding: the test would not see it taken for a certificate"
    assert Certificate(K, 1.0, 1.0 - 1e-6, 0.0).certified


def test_a_witness_measures_in_the_precision_of_the_mean() -> None:
    """The alignment of the exact code is 0 to float64's rounding, though training is in float32."""
    settings = WitnessSettings(teacher=TeacherSettings(components=6))
    witness = Witness(settings, (1, 4, 4), 5)
    target = random_teacher(0)
    code = minimum_code(target, simplex(6, 5), settings.gain)
    assert float(witness.alignment(target, code).abs().max()) < 1e-12
    assert witness.alignment(target.float(), code.float()).dtype == torch.float32
    assert "vertices" not in witness.state_dict()


def test_the_code_is_exact_and_the_shortest() -> None:
    """Against the pseudo-inverse of β V, which gives the least-norm solution of β Vz = c."""
    target, vertices = random_teacher(0), simplex(6, 9)
    code = minimum_code(target, vertices, GAIN)
    least = centred_log_odds(target) @ torch.linalg.pinv(GAIN * vertices).T
    torch.testing.assert_close(code, least, atol=1e-12, rtol=0)
    assert divergence(target, log_readout(code, vertices, GAIN)).abs().max() < 1e-12


def test_the_gradient_leaves_the_collapsed_point() -> None:
    """At μ = 0 it is −β Σ_k T_k v_k (derived), by autograd."""
    target, vertices = random_teacher(1), simplex(6, 5)
    mean = torch.zeros(len(target), 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(divergence(target, log_readout(mean, vertices, GAIN)).sum())
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, -GAIN * target @ vertices, atol=1e-12, rtol=0)
    assert mean.grad.norm(dim=1).min() > 1e-3
