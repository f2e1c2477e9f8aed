"""Local intrinsic dimensions against what is known, and the dual threshold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import oodbench
from oodbench.baselines.lid import LIDDiffusion, LIDGlow, effective_dimension, whole_latents
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import DETECTORS
from oodbench.models.denoising.config import DiffusionConfig
from oodbench.models.denoising.diffusion import DiffusionModel
from oodbench.models.denoising.schedules import alpha, sigma
from oodbench.seeding import KeyedNoise


def test_conjugate_gradients_have_the_trace() -> None:
    """Of a linear map: every sign vector's value against a solution, their mean against Σ λ."""
    generator = torch.Generator().manual_seed(0)
    singular = torch.tensor([400.0, 300, 200, 90, 40, 20, 10, 5, 1, 1, 0.5, 0.1])
    left, right = (
        torch.linalg.qr(torch.randn(12, 12, generator=generator))[0] for _ in range(2)
    )  # fmt: skip
    k = left @ torch.diag(singular) @ right.T
    signs = torch.randn(600, 12, generator=generator).sign()
    found = effective_dimension(lambda x: x @ k.T, torch.zeros(600, 12), signs, 0.05)
    inverse = torch.linalg.inv(torch.eye(12).double() + 0.05**2 * (k.T @ k).double())
    expected = torch.einsum("ni,ij,nj->n", signs.double(), inverse, signs.double())
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)
    dimension = float((1 / (1 + 0.05**2 * singular.double() ** 2)).sum())
    assert abs(float(found.mean()) - dimension) < 0.3


def test_the_dimension_of_a_flow_is_that_of_its_jacobian() -> None:
    torch.manual_seed(0)
    model = resolve(find_recipe("glow-D"), "smoke", "glow-lid").build((1, 4, 4))
    images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8)
    model.initialise(images)  # type: ignore[operator]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    x = model.observe(images[:1], KeyedNoise(0, np.arange(1)))  # type: ignore[operator]

    latents = whole_latents(model)  # type: ignore[arg-type]
    jacobian = torch.func.jacrev(lambda p: latents(p)[0])(x).reshape(16, 16).double().detach()
    exact = torch.linalg.inv(torch.eye(16).double() + 0.05**2 * jacobian.T @ jacobian).trace()
    rows, signs = x.repeat(64, 1, 1, 1), torch.randn(64, 1, 4, 4).sign()
    found = effective_dimension(latents, rows, signs, 0.05)
    assert abs(float(found.mean() - exact)) < 5 * float(found.std() / 8) + 0.05


def test_the_dimension_of_a_diffusion_model_counts_what_varies() -> None:
    """Gaussian data, 5 of 16 pixels of which vary: every one adds v²/(v + s²)² z² + s²/(v + s²)."""
    varies = torch.zeros(1, 4, 4)
    varies.view(-1)[:5] = 0.3

    class Optimal(torch.nn.Module):
        def forward(self, z: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            gamma = (-9.0 + 17.0 * level)[:, None, None, None]
            return sigma(gamma) * z / (alpha(gamma) ** 2 * varies + sigma(gamma) ** 2)

    model = DiffusionModel(DiffusionConfig(width=4), (1, 4, 4))
    model.network = Optimal()  # type: ignore[assignment]
    detector = LIDDiffusion()
    detector.model = model
    detector.recipe = resolve(find_recipe("diffusion-D"), "smoke", "diffusion-paths")
    images = torch.full((3, 1, 4, 4), 127, dtype=torch.uint8)  # almost the mean
    lid = detector.measure(images, KeyedNoise(0, np.arange(3)))["lid"]
    s = 0.1
    expected = 16 - 11 - 5 * s**2 / (0.3 + s**2)
    x = float(2 * 127 / 255 - 1)
    size = 11 * (x / s) ** 2 + 5 * (s * x / (0.3 + s**2)) ** 2
    torch.testing.assert_close(lid, torch.full((3,), expected + size).double(), atol=1e-3, rtol=0)
    assert abs(expected - 5) < 0.2
    assert math.isfinite(float(lid.sum()))


def test_either_threshold_calls_it_ood() -> None:
    generator = np.random.default_rng(0)
    detector = LIDGlow()
    training = {"log_prob": generator.normal(-1_000, 50, 5_000),
                "lid": generator.normal(300, 20, 5_000)}  # fmt: skip
    detector.calibrate(training)
    at = {
        "log_prob": np.array([-1_000.0, -1_200, -900, -900]),
        "lid": np.array([300.0, 300, 220, 380]),
    }
    found = detector.scores(at)
    np.testing.assert_allclose(found["pair"], [0.0, 4.0, 4.0, -2.0], atol=0.2)
    np.testing.assert_allclose(found["LID"], [0.0, 0.0, 4.0, -4.0], atol=0.2)


@pytest.mark.slow
def test_the_pair_finds_photographs_among_digits(trained: Path) -> None:
    names = ["lid-glow", "lid-diffusion"]
    found = oodbench.run("digits-photos", names, scale="smoke", store=trained, quiet=True)
    rows = found[found["metric"] == "auroc"].set_index(["detector", "score"])["value"]
    for name in names:
        assert rows[DETECTORS.get(name).title, "pair"] > 85, rows
