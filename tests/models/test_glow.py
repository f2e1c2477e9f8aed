"""Glow: exact inverse, determinants against autograd, a density that integrates to one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from oodbench.models.flows.config import GlowConfig
from oodbench.models.flows.glow import (
    ActNorm,
    Coupling,
    Glow,
    InvertibleConv,
    Step,
    squeeze,
    unsqueeze,
)
from oodbench.seeding import KeyedNoise


def perturbed(module: torch.nn.Module, spread: float = 0.1) -> torch.nn.Module:
    """Every parameter moved a little, so that nothing rests at its trivial start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


def flow(shape: tuple[int, int, int], levels: int = 2, steps: int = 2, hidden: int = 6) -> Glow:
    torch.manual_seed(0)
    model = GlowConfig(levels=levels, steps=steps, hidden=hidden).build(shape)
    return perturbed(model)  # type: ignore[return-value]


def test_reduced_precision_leaves_map_and_determinant_alone() -> None:
    """Under autocast the density is the very one without, and so is its gradient."""
    model = flow((1, 8, 8)).float()
    x = points(6, 1, 8, 8).float()
    found = []
    for reduced in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            density = model.log_density(x)
        density.sum().backward()
        found.append((density.detach(), model.levels[0][0].mix.lower.grad.clone()))  # type: ignore[index, union-attr]
    for plain, under in zip(*found, strict=True):
        assert torch.equal(plain, under)


def test_only_glows_that_were_trained_in_bf16_are_trained_anew() -> None:
    config = GlowConfig()
    assert config.settings_revision({"precision": "fp32"}) == 0
    assert config.settings_revision({"precision": "bf16"}) == 1


def points(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("part", [ActNorm(6), InvertibleConv(6), Coupling(6, 5), Step(6, 5)])
def test_every_part_has_its_inverse_and_determinant(part: torch.nn.Module) -> None:
    part = perturbed(part, 0.2)
    x = points(2, 6, 3, 2)
    y, determinant = part(x)
    torch.testing.assert_close(part.inverse(y), x, rtol=1e-9, atol=1e-9)  # type: ignore[operator]
    for index in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda one: part(one[None])[0].flatten(), x[index]
        ).view(36, 36)
        expected = torch.linalg.slogdet(jacobian)[1]
        found = determinant if determinant.ndim == 0 else determinant[index]
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_squeeze_moves_blocks_into_channels() -> None:
    x = points(2, 3, 4, 6)
    assert squeeze(x).shape == (2, 12, 2, 3)
    torch.testing.assert_close(unsqueeze(squeeze(x)), x)


def test_the_whole_flow_against_autograd() -> None:
    model = flow((2, 4, 4))
    x = points(3, 2, 4, 4)
    latents, parameters, determinant = model.transform(x)
    torch.testing.assert_close(model.inverse(latents), x, rtol=1e-8, atol=1e-8)
    assert [tuple(z.shape[1:]) for z in latents] == [(4, 2, 2), (16, 1, 1)]

    def flat(one: torch.Tensor) -> torch.Tensor:
        return torch.cat([z.flatten() for z in model.transform(one[None])[0]])

    for index in range(3):
        jacobian = torch.autograd.functional.jacobian(flat, x[index]).view(32, 32)
        expected = torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(determinant[index], expected, rtol=1e-8, atol=1e-8)
    density = determinant.clone()
    for z, read in zip(latents, parameters, strict=True):
        mean, log_scale = read.chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, log_scale.exp())
        density = density + normal.log_prob(z).flatten(1).sum(1)
    torch.testing.assert_close(model.log_density(x), density)


def test_the_density_integrates_to_one() -> None:
    model = flow((1, 2, 2), levels=1)
    wide = torch.distributions.Normal(0.0, 2.0)
    x = wide.sample(torch.Size([200_000, 1, 2, 2])).double()
    with torch.no_grad():
        weights = torch.exp(model.log_density(x) - wide.log_prob(x).flatten(1).sum(1))
    error = float(weights.std()) / math.sqrt(len(weights))
    assert float(weights.mean()) == pytest.approx(1.0, abs=5 * error)
    assert error < 0.02


def test_pixels_count_eight_bits() -> None:
    model = flow((1, 4, 4)).float()
    images = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    noise = KeyedNoise(0, np.arange(5))
    x = (images.float() + noise.uniform("dequantise", (1, 4, 4))) / 256.0 - 0.5
    expected = model.log_density(x) - 16 * math.log(256.0)
    torch.testing.assert_close(model.log_prob(images, noise), expected)
    alone = torch.cat([
        model.log_prob(images[i : i + 1], KeyedNoise(0, np.arange(i, i + 1))) for i in range(5)
    ])  # fmt: skip
    torch.testing.assert_close(alone, expected, rtol=1e-6, atol=1e-4)


def test_initialisation_normalises_and_weights_reload() -> None:
    torch.manual_seed(0)
    config = GlowConfig(levels=2, steps=2, hidden=8)
    model = config.build((3, 8, 8))
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    seen = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, out: seen.append(out[0]))
        for m in model.modules() if isinstance(m, ActNorm)
    ]  # fmt: skip
    model.initialise(images)
    for hook in hooks:
        hook.remove()
    for y in seen:
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(y.shape[1]), rtol=0, atol=1e-3)
        torch.testing.assert_close(y.var((0, 2, 3)), torch.ones(y.shape[1]), rtol=5e-2, atol=5e-2)
    again = config.build((3, 8, 8))
    again.load_state_dict(model.state_dict())
    noise = KeyedNoise(3, np.arange(16))
    assert torch.equal(model.log_prob(images, noise), again.log_prob(images, noise))


def test_samples_are_images_and_the_same_for_the_same_noise() -> None:
    model = flow((3, 8, 8)).float()
    first = model.sample(4, KeyedNoise(0, np.arange(4)))
    assert first.shape == (4, 3, 8, 8)
    assert first.dtype == torch.uint8
    assert torch.equal(first, model.sample(4, KeyedNoise(0, np.arange(4))))


def test_a_side_that_cannot_be_halved_is_padded_and_one_that_is_too_short_refused() -> None:
    model = GlowConfig(levels=3, steps=1, hidden=4).build((1, 28, 28))
    assert model.inner == (1, 32, 32)
    with pytest.raises(ValueError, match="to nothing; set fewer levels"):
        GlowConfig(levels=4).build((1, 4, 28))
