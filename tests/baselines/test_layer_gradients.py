"""Gradients of every image at once are those of a loop, and their density finds what is strange."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import oodbench
from oodbench.baselines.layer_gradients import GradientsGlow, LayerGradients
from oodbench.baselines.per_image_gradients import AsProducts, layers_of, squared_gradients
from oodbench.baselines.pixel_gradients import continuous_log_prob
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import DETECTORS
from oodbench.seeding import KeyedNoise

CASES = [
    ("glow-D", "gradients-glow"), ("D2", "gradients-hvae"), ("E3-rgb", "gradients-hvae"),
    ("pixelcnn-D", "gradients-pixelcnn"), ("diffusion-D", "gradients-diffusion"),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "name"), CASES)
def test_all_at_once_is_one_by_one(recipe: str, name: str) -> None:
    detector = DETECTORS.get(name)()
    assert isinstance(detector, LayerGradients)
    file = find_recipe(recipe)
    torch.manual_seed(0)
    model = resolve(file, "smoke", detector.recipe_variant).build((file.shape[0], 8, 8))
    images = torch.randint(0, 256, (16, file.shape[0], 8, 8), dtype=torch.uint8)
    model.initialise(images)  # type: ignore[operator]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    model.eval()
    found = squared_gradients(
        model, detector.parts, detector.likelihood, images[:5], KeyedNoise(0, np.arange(5))
    )
    weights = dict(model.named_parameters())
    assert found.shape == (5, len(layers_of(model)))
    for row in range(5):
        model.zero_grad()
        noise, pixels = KeyedNoise(0, np.array([row])), images[row : row + 1].float()
        if name == "gradients-diffusion":
            log_prob = detector.parts(model, pixels, noise).rest
        else:
            log_prob = continuous_log_prob(model, pixels, noise)
        torch.autograd.backward(log_prob.sum())
        expected = [
            sum(float((weights[n].grad.double() ** 2).sum()) for n in names
                if weights[n].grad is not None)
            for names in layers_of(model).values()
        ]  # fmt: skip
        torch.testing.assert_close(
            found[row], torch.tensor(expected, dtype=torch.float64), rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_products_are_convolutions(stride: int, kernel: int) -> None:
    x, w = torch.randn(2, 3, 7, 6), torch.randn(5, 3, kernel, kernel)
    bias, back = torch.randn(5), torch.randn(3, 5, kernel, kernel)
    pad = kernel // 2
    plain = F.conv2d(x, w, bias, stride, pad), F.conv_transpose2d(x, back, bias, stride, pad // 2)
    with AsProducts():
        made = (
            F.conv2d(x, w, bias, stride, pad),
            F.conv_transpose2d(x, back, bias, stride, pad // 2),
        )
    torch.testing.assert_close(made, plain, atol=1e-4, rtol=1e-4)


def test_the_density_is_two_sided_and_leaves_out_what_never_varies() -> None:
    generator = np.random.default_rng(0)
    training = generator.normal([0.0, 5.0, -3.0], [1.0, 0.5, 0.0], (2_000, 3))
    detector = GradientsGlow()
    detector.calibrate({"log_squares": training})
    at = np.array([[0.0, 5.0, -3.0], [4.0, 5.0, -3.0], [-4.0, 5.0, -3.0], [0.0, 7.0, 9.0]])
    found = detector.scores({"log_squares": at})["gradients"]
    np.testing.assert_allclose(found, [0, 8, 8, 8], atol=0.6)


@pytest.mark.slow
def test_it_finds_photographs_among_digits(trained: Path) -> None:
    names = sorted({name for _, name in CASES})
    found = oodbench.run("digits-photos", names, scale="smoke", store=trained, quiet=True)
    auroc = found[found["metric"] == "auroc"].set_index("detector")["value"]
    assert len(auroc) == len(names)
    assert (auroc > 90).all(), auroc
