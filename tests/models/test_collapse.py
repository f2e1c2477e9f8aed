"""Diagnostics of collapse: closed forms, and the same for every model with an encoder mean."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import find_places, load
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.models.hierarchical.posterior_collapse import (
    Encoding,
    LayerDiagnosis,
    active_units,
    fit_readout,
    information,
)
from oodbench.models.hierarchical.simplex_witness import certificate, smoothed
from oodbench.models.layers.gaussian import Gaussian
from oodbench.seeding import KeyedNoise

SHAPE = (1, 8, 8)
#: Recipe, variant, layers and units per layer.
MODELS: dict[str, tuple[str, str, list[int]]] = {
    "hvae": ("D2", "vanilla", [64, 4]),
    "lvae": ("lvae-D2", "lvae", [64, 4]),
    "biva": ("biva-D2", "biva", [128, 4]),
    "conv-vae": ("vae-D", "vae", [8]),
    "rst": ("rst-D", "rst", [10]),
    "dvp": ("dvp-D", "dvp", [32, 8]),
}


@cache
def digits(split: str, count: int) -> Tensor:
    images = load("digits", split, find_places((), "results/store")).images
    return torch.from_numpy(images[:count].copy())


def build(name: str) -> Encoding:
    """An untrained model, initialised on data."""
    file, variant, _ = MODELS[name]
    torch.manual_seed(0)
    model = resolve(find_recipe(file), "smoke", variant).build(SHAPE)
    if hasattr(model, "prepare"):
        model.prepare(digits("train", 200), seed=0)  # type: ignore[operator]
    model.initialise(digits("train", 64))  # type: ignore[operator]
    return model.eval()  # type: ignore[return-value]


def side(split: str, count: int) -> tuple[Tensor, Callable[[slice], KeyedNoise]]:
    return digits(split, count), KeyedNoise(1, np.arange(count)).rows


@cache
def diagnosed(name: str) -> list[dict[str, float | int | bool]]:
    return LayerDiagnosis().run(build(name), side("test", 130), side("train", 200), seed=0)


# ---------------------------------------------------------------------- I(x; z)
@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_the_information_of_a_gaussian_channel(noise: float) -> None:
    """μ ~ N(0, 1), z = μ + σε: ½ ln(1 + 1/σ²) per unit; here two units."""
    generator = torch.Generator().manual_seed(0)
    mean, eps = torch.randn(2, 2000, 2, generator=generator, dtype=torch.float64)
    q = Gaussian(mean, torch.full_like(mean, noise))
    exact = math.log1p(noise**-2)
    assert information(q, mean + noise * eps) == pytest.approx(exact, abs=0.06)


def test_the_information_stops_at_the_logarithm_of_the_count() -> None:
    mean = torch.arange(50.0)[:, None]
    sharp = Gaussian(mean, torch.full_like(mean, 1e-4))
    assert information(sharp, mean) == pytest.approx(math.log(50))
    same = Gaussian(torch.zeros(50, 3), torch.ones(50, 3))
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert information(same, z) == pytest.approx(0, abs=1e-12)


def test_the_information_is_that_of_the_definition() -> None:
    """Against the sum of densities by torch.distributions, units of unequal scales."""
    generator = torch.Generator().manual_seed(1)
    mean, eps = torch.randn(2, 230, 3, generator=generator, dtype=torch.float64)
    scale = torch.rand(230, 3, generator=generator, dtype=torch.float64) + 0.1
    z = mean + scale * eps
    density = torch.distributions.Normal(mean[None], scale[None]).log_prob(z[:, None]).sum(2)
    expected = (density.diagonal() - density.logsumexp(1)).mean() + math.log(230)
    assert information(Gaussian(mean, scale), z) == pytest.approx(float(expected), rel=1e-9)


def test_active_units_by_their_variance() -> None:
    mean = torch.tensor([[0.0, 5.0, 1.0, 0.0], [0.21, 5.0, 3.0, 0.19]])
    assert active_units(mean) == 2  # variances 0.0110, 0, 1, 0.0090


# ---------------------------------------------------------------------- readouts
def test_a_fitted_readout_finds_labels_and_makes_none_up() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (600,), generator=generator)
    target = smoothed(torch.nn.functional.one_hot(labels, 4).double(), 0.05)
    corners = 2 * torch.randn(4, 6, generator=generator)
    mean = corners[labels] + 0.1 * torch.randn(600, 6, generator=generator)
    learned, judged = slice(0, 300), slice(300, 600)

    def gap(code: Tensor) -> float:
        readout = fit_readout(code[learned], target[learned])
        return certificate(target[judged], readout(code[judged]), 5.0).gap

    assert gap(mean) > 0.5
    assert gap(torch.randn(600, 6, generator=generator)) < 0.05
    assert gap(torch.ones(600, 6)) <= 0
    assert gap(1e-4 * mean) < 1e-3  # a mean that hardly moves gains hardly anything


# ---------------------------------------------------------------------- models
@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_with_an_encoder_mean_is_diagnosed(name: str) -> None:
    rows = diagnosed(name)
    units = MODELS[name][2]
    assert [row["units"] for row in rows] == units
    assert [row["layer"] for row in rows] == list(range(1, len(units) + 1))
    for row, width in zip(rows, units, strict=True):
        assert row["K"] == min(10, width + 1)
        assert row["G_T_nats"] == pytest.approx(row["I_T_nats"] - row["L_TS_nats"])
        assert row["certified"] == (row["G_T_nats"] > 0)
        assert -0.01 < row["information_nats"] <= row["information_limit_nats"] + 1e-9
        assert row["information_limit_nats"] == pytest.approx(math.log(130))
        assert row["own_witness"] == (name == "rst")
        assert all(math.isfinite(value) for value in row.values())


@pytest.mark.parametrize("name", list(MODELS))
def test_the_means_are_functions_of_the_image(name: str) -> None:
    """Other draws of z, the same pixels: the same posteriors, in any company."""
    model, images = build(name), digits("test", 12)

    class OtherDraws(KeyedNoise):
        def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
            return super().normal(f"other {name}", shape)

        def scope(self, name: str) -> KeyedNoise:
            return self

    indices = np.arange(12)
    first = model.posteriors(images, KeyedNoise(1, indices))
    other = model.posteriors(images, OtherDraws(1, indices))
    alone = model.posteriors(images[:5], KeyedNoise(1, indices[:5]))
    for a, b, c in zip(first, other, alone, strict=True):
        torch.testing.assert_close(a.mean, b.mean)
        torch.testing.assert_close(a.mean[:5], c.mean, atol=1e-5, rtol=1e-4)
        assert float(a.mean.var(0).max()) > 0


def test_the_bound_of_the_dvp_vae_pays_for_u() -> None:
    """L>0 of a diagnosis is the ELBO of the same images, to the noise of the draws."""
    rows = diagnosed("dvp")
    images, bits = digits("test", 130), 64 * math.log(2)
    noise = KeyedNoise(2, np.arange(130))
    elbo = build("dvp").log_prob(images, noise).mean()  # type: ignore[attr-defined]
    without = rows[0]["nll_bits_per_dim"] + sum(row["kl_nats"] for row in rows) / bits
    found = rows[0]["bound_bits_per_dim"]
    assert found - without > 0.1
    assert abs(found + float(elbo) / bits) < 0.2 * (found - without)


def test_the_terms_are_those_of_the_bound() -> None:
    """L>0 is −NLL_0 − Σ_l KL_l."""
    rows: list[dict[str, JSON]] = [dict(row) for row in diagnosed("hvae")]
    bits = 64 * math.log(2)
    total = float(str(rows[0]["nll_bits_per_dim"])) + sum(
        float(str(row["kl_nats"])) / bits for row in rows
    )
    assert rows[0]["bound_bits_per_dim"] == pytest.approx(total)


def test_what_has_no_encoder_mean_is_told_apart() -> None:
    assert LayerDiagnosis.applies(build("hvae"))  # type: ignore[arg-type]
    flow = resolve(find_recipe("glow-D"), "smoke", "glow").build(SHAPE)
    assert not LayerDiagnosis.applies(flow)
