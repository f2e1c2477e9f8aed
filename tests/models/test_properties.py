"""What every generative model must keep, whatever it is: each recipe for 8×8 images, at smoke."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.declare.recipes import recipe_files, resolve
from oodbench.seeding import KeyedNoise
from oodbench.store.payload import pack_tensors, unpack_tensors

SHAPE = (1, 8, 8)
CLASSIFIERS = ("classifier", "mixture-vib-classifier", "mutation-classifier", "vib-classifier")
CASES = [
    (file.name, variant)
    for file in recipe_files().values()
    if file.shape == SHAPE and file.model not in CLASSIFIERS
    for variant in file.variants
    # Variants that differ in training or measuring alone have the same network.
    if file.model == "hvae" or variant == file.variants[0]
]


def built(name: str, variant: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = resolve(recipe_files()[name], "smoke", variant).build(SHAPE)
    if hasattr(model, "prepare"):
        model.prepare(images(64), 0)
    model.initialise(images(64))  # type: ignore[operator]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    model.train()
    for _ in range(3):
        model.loss(images(64), 1)  # type: ignore[operator]
    return model.eval()


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8)


def log_prob(model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model.log_prob(  # type: ignore[operator]
            images(12)[rows], KeyedNoise(7, np.array(rows))
        )
    return out


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_log_probabilities(name: str, variant: str) -> None:
    model = built(name, variant)
    whole = log_prob(model, list(range(12)))
    assert whole.shape == (12,)
    assert whole.dtype == torch.float64
    assert torch.isfinite(whole).all()
    # Of 8-bit images a probability: never above one.
    assert (whole < 0).all()
    # Neither the batch size nor the other images matter.
    for rows in ([3], [11, 3], [5, 4, 3, 2]):
        torch.testing.assert_close(log_prob(model, rows), whole[rows], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_a_stored_state_gives_the_same_values(name: str, variant: str) -> None:
    model = built(name, variant)
    state = unpack_tensors(pack_tensors(model.state_dict()))
    torch.manual_seed(99)
    other = resolve(recipe_files()[name], "smoke", variant).build(SHAPE)
    other.load_state_dict(state)
    rows = [0, 1, 2]
    torch.testing.assert_close(log_prob(other.eval(), rows), log_prob(model, rows), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_samples_are_images(name: str, variant: str) -> None:
    drawn = built(name, variant).sample(3)  # type: ignore[operator]
    assert drawn.shape == (3, *SHAPE)
    assert drawn.dtype == torch.uint8
    assert len(drawn.unique()) > 1


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_the_loss_moves_every_parameter(name: str, variant: str) -> None:
    model = built(name, variant).train()
    out = model.loss(images(16), 9)  # type: ignore[operator]
    out["loss"].backward()
    top = f"stages.{len(getattr(model, 'stages', [])) - 1}.q_projection"  # nothing reads above it
    still = [
        label for label, parameter in model.named_parameters()
        if parameter.grad is None or not torch.isfinite(parameter.grad).all()
        if top not in label
    ]  # fmt: skip
    assert still == []
