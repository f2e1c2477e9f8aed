"""∇ₓ log p against finite differences, for every structure of the built-in densities."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from recipe_structures import Structure, structures

from oodbench.baselines.pixel_gradients import continuous_log_prob, interpolated
from oodbench.declare.recipes import MODELS
from oodbench.models.layers import fft_convolution
from oodbench.models.layers.likelihoods import Bernoulli
from oodbench.models.layers.noise import Noise
from oodbench.seeding import KeyedNoise

CLASSIFIERS = ("classifier", "mixture-vib-classifier", "mutation-classifier", "vib-classifier")
CASES = [one for one in structures() if one.recipe.config.name not in CLASSIFIERS]
COUNT = 4
#: In levels of grey.
STEP = 1e-4


def built(case: Structure) -> torch.nn.Module:
    torch.manual_seed(0)
    model = case.recipe.build(case.shape).to(torch.get_default_dtype())
    if hasattr(model, "prepare"):
        model.prepare(images(case, 32), 0)
    model.initialise(images(case, 32))  # type: ignore[operator]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return model.eval()


def images(case: Structure, count: int = COUNT) -> torch.Tensor:
    """Waves in which every value lies between 1 and 254, but for the black and white corners."""
    generator = np.random.default_rng(7)
    y, x = np.mgrid[0 : case.shape[1], 0 : case.shape[2]]
    phase = generator.uniform(0, 6, (count, case.shape[0], 1, 1))
    wave = 127 + 90 * np.sin(x / 3 + phase) * np.cos(y / 4 + phase)
    values = (wave + generator.normal(0, 8, wave.shape)).clip(1, 254).astype(np.uint8)
    values[..., 0, 0], values[..., -1, -1] = 0, 255
    return torch.from_numpy(values)


def noise() -> KeyedNoise:
    return KeyedNoise(0, np.arange(COUNT))


class Doubled:
    """The same draws in float64."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return self.noise.normal(name, shape).double()

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return self.noise.uniform(name, shape).double()

    def scope(self, name: str) -> Doubled:
        return Doubled(self.noise.scope(name))


def test_every_density_has_a_case() -> None:
    assert {one.recipe.config.name for one in CASES} == {*MODELS.names()} - {*CLASSIFIERS}


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything in float64, so that a step may be too small to meet the kink of a ReLU."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    fft_convolution._plan.cache_clear()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    fft_convolution._plan.cache_clear()


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.names[0])
def test_the_gradient_is_that_of_finite_differences(case: Structure) -> None:
    """Along whole directions, and pixel by pixel: a path that is left out would show in either."""
    model, given = built(case), images(case)
    pixels = given.double().requires_grad_()
    value = continuous_log_prob(model, pixels, Doubled(noise()))
    assert value.shape == (COUNT,)
    (gradient,) = torch.autograd.grad(value.sum(), pixels)
    assert gradient.flatten(1).norm(dim=1).min() > 0

    def slope(direction: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            above, below = (
                continuous_log_prob(model, given + step * direction, Doubled(noise()))
                for step in (STEP, -STEP)
            )
        return (above - below) / (2 * STEP)

    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(given.shape, generator=generator) for _ in range(4)]
    for place in (0, gradient[0].numel() // 2 + 3, gradient[0].numel() - 1):  # black, grey, white
        one = torch.zeros(COUNT, gradient[0].numel())
        one[:, place] = 1.0
        directions.append(one.view(given.shape))
    for direction in directions:
        along = (gradient * direction).flatten(1).sum(1)
        size = gradient.flatten(1).norm(dim=1) * direction.flatten(1).norm(dim=1)
        assert ((along - slope(direction)).abs() / size).max() < 1e-3


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.names[0])
def test_at_whole_numbers_it_is_log_prob(case: Structure) -> None:
    model, given = built(case), images(case)
    if isinstance(getattr(model, "likelihood", None), Bernoulli):
        given = (given > 127).to(torch.uint8) * 255  # a binary draw of which is the image itself
    with torch.no_grad():
        expected = model.log_prob(given, noise())  # type: ignore[operator]
        found = continuous_log_prob(model, given.float(), noise())
        again = continuous_log_prob(model, given.float(), noise())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)
    assert torch.equal(found, again)


def test_between_two_values_the_interpolation_is_smooth_and_meets_both() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(256, generator=generator)
    log_p = logits.double().log_softmax(0)
    whole = torch.arange(256.0)
    found = interpolated(logits.expand(256, -1), whole)
    torch.testing.assert_close(found.double(), log_p, rtol=1e-5, atol=1e-5)
    x = whole.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(interpolated(logits.expand(256, -1), x).sum(), x)
    expected = torch.gradient(logits)[0]  # central differences, one-sided at the ends
    torch.testing.assert_close(slopes, expected, rtol=1e-4, atol=1e-4)
    left = torch.nextafter(whole[1:], torch.zeros(())).requires_grad_()
    (before,) = torch.autograd.grad(interpolated(logits.expand(255, -1), left).sum(), left)
    torch.testing.assert_close(before, expected[1:], rtol=1e-2, atol=1e-2)


def test_a_model_of_no_density_is_refused_and_ones_own_is_added() -> None:
    class Mine(torch.nn.Module):
        pass

    with pytest.raises(
        TypeError, match=r"Mine has no log p of real pixels; those that have: ConvVAE"
    ):
        continuous_log_prob(Mine(), torch.zeros(1, 1, 8, 8))
    continuous_log_prob.register(Mine, lambda model, pixels, noise=None: -pixels.sum((1, 2, 3)))
    assert continuous_log_prob(Mine(), torch.ones(2, 1, 1, 1)).tolist() == [-1, -1]
