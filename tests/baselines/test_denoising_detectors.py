"""Detectors that denoise: their distances, masks and formulas, and what they find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import oodbench
from oodbench.baselines.cclr import LevelRatio
from oodbench.baselines.ddpm_ood import DDPMOOD, STARTS
from oodbench.baselines.denoising import STEADY, dissimilarity, mean_squares
from oodbench.baselines.diffpath import DiffPath
from oodbench.baselines.lmd import LiftMapDetect, checkerboard
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import DETECTORS
from oodbench.models.denoising.diffusion import DiffusionModel, scaled
from oodbench.seeding import KeyedNoise


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    """Untrained but for weights that do something."""
    torch.manual_seed(0)
    recipe = resolve(find_recipe("diffusion-D"), "smoke", "diffusion")
    made = recipe.build((1, 8, 8)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    assert isinstance(made, DiffusionModel)
    return made


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)


def test_structural_similarity_window_by_window() -> None:
    a, b = (2 * torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(i)).double() - 1
            for i in (0, 1))  # fmt: skip
    expected = []
    for one, other in zip(a.numpy(), b.numpy(), strict=True):
        values = []
        for c in range(3):
            for r in range(3):
                for k in range(2):
                    x, y = (v[c, r : r + 7, k : k + 7] for v in (one, other))
                    both = ((x - x.mean()) * (y - y.mean())).mean()
                    same = (2 * x.mean() * y.mean() + STEADY[0]) * (2 * both + STEADY[1])
                    most = (x.mean() ** 2 + y.mean() ** 2 + STEADY[0]) * (
                        x.var() + y.var() + STEADY[1]
                    )
                    values.append(same / most)
        expected.append(1 - np.mean(values))
    np.testing.assert_allclose(dissimilarity(a, b).numpy(), expected, rtol=1e-9)
    assert dissimilarity(a, a).abs().max() < 1e-12
    torch.testing.assert_close(mean_squares(a, b), ((a - b) ** 2).mean((1, 2, 3)))


def test_standardised_errors_are_averaged_over_starts_and_distances() -> None:
    generator = np.random.default_rng(0)
    shape, detector = (500, len(STARTS)), DDPMOOD()
    training = {"mse": generator.gamma(2, 1, shape), "ssim": generator.uniform(0, 1, shape)}
    detector.calibrate(training)
    found = detector.scores(training)
    assert abs(found["MSE+SSIM"].mean()) < 1e-9
    z = [(training[n] - training[n].mean(0)) / training[n].std(0) for n in ("mse", "ssim")]
    np.testing.assert_allclose(found["MSE+SSIM"], np.concatenate(z, 1).mean(1))


def test_a_mask_hides_half_and_what_is_seen_stays(model: DiffusionModel) -> None:
    for shape in ((1, 28, 28), (3, 32, 32), (1, 8, 8)):
        board = checkerboard(torch.zeros(1, *shape))
        assert board.shape == shape[1:]
        assert 0.45 < board.float().mean() < 0.55
    detector = LiftMapDetect()
    detector.model = model
    x = scaled(images(3))
    board = checkerboard(x)
    grid = model.schedule.grid(5)[::-1]
    with torch.no_grad():
        noise = KeyedNoise(0, np.arange(3))
        painted = detector._paint(x, board, grid, noise, noise.scope("down"))
    assert torch.equal(painted[:, :, board], x[:, :, board])
    assert (painted[:, :, ~board] - x[:, :, ~board]).abs().mean() > 0.05


def test_the_path_is_that_of_ddim(model: DiffusionModel) -> None:
    """Sums over the same steps that `walk` takes, by numpy."""
    detector = DiffPath()
    detector.model = model
    with torch.no_grad():
        found = detector.measure(images(4))["path"].numpy()
        z, grid, seen = scaled(images(4)), model.schedule.grid(10), []
        for place in range(10):
            seen.append(model.predict(z, model.level(grid[place], z)).numpy())
            z = model.walk(scaled(images(4)), grid[: place + 2])
    eps = np.stack(seen, 1).astype(float)
    change = 10 * np.diff(eps, axis=1)
    expected = [(v**n).mean((1, 2, 3, 4)) for v in (eps, change) for n in (1, 2, 3)]
    np.testing.assert_allclose(found, np.stack(expected, 1), rtol=1e-3, atol=1e-6)


def test_the_bound_is_detail_and_what_is_above(model: DiffusionModel) -> None:
    detector = LevelRatio()
    detector.model, detector.recipe = (
        model,
        resolve(find_recipe("diffusion-D"), "smoke", "diffusion"),
    )
    noise = KeyedNoise(0, np.arange(6))
    with torch.no_grad():
        parts = detector.measure(images(6), noise)
        bound = model.log_prob(images(6), noise, detector.recipe.measure.importance_samples)
    torch.testing.assert_close(parts["detail"] + parts["above"], -bound)
    generator = np.random.default_rng(1)
    detail = generator.normal(1_000, 100, 4_000)
    above = 40 + 0.05 * detail + generator.normal(0, 2, 4_000)
    detector.calibrate({"detail": detail, "above": above})
    at = {"detail": np.array([1_000.0, 500.0]), "above": np.array([90.0, 71.0])}
    np.testing.assert_allclose(detector.scores(at)["CCLR"], [0.0, 3.0], atol=0.15)


@pytest.mark.slow
def test_they_find_what_is_strange(trained: Path) -> None:
    """At scale smoke.  Photographs are smooth: plain squared errors of theirs are small, so that
    white digits on black are told from black ones on white by it instead."""
    for pair, floors in {
        "digits-photos": {("ddpm-ood", "MSE+SSIM"): 90, ("diffpath", "6D"): 90,
                          ("diffpath", "1D"): 70, ("lmd", "SSIM"): 80, ("cclr", "CCLR"): 60},
        "digits-digits@invert": {("ddos", ""): 90, ("ddpm-ood", "MSE"): 90,
                                 ("ddpm-ood", "SSIM"): 90,
                                 ("lmd", "MSE"): 80, ("cclr", "L>0"): 60},
    }.items():  # fmt: skip
        names = sorted({name for name, _ in floors})
        found = oodbench.run(pair, names, scale="smoke", store=trained, quiet=True)
        rows = found[found["metric"] == "auroc"].set_index(["detector", "score"])["value"]
        for (name, score), floor in floors.items():
            assert rows[DETECTORS.get(name).title, score] > floor, (pair, name, score)
