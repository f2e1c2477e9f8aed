"""Compiled and eager training agree for every family of models; likelihoods are in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_structures import Structure, structures
from torch import nn
from torch._dynamo.utils import counters

from oodbench.train.batches import Supervision
from oodbench.train.compiling import compile_networks, networks
from oodbench.train.training import Runtime, _Loop

STEPS = 3
if tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) < (2, 11):
    pytest.skip(
        "torch before 2.11 traces less and rounds otherwise (seen with 2.6)",
        allow_module_level=True,
    )


def one_of_each() -> list[Structure]:
    """A structure for every registered model, the simplest likelihood first."""
    found: dict[str, Structure] = {}
    for structure in structures():
        found.setdefault(structure.recipe.config.name, structure)
    return list(found.values())


def loop(structure: Structure, folder: Path, precision: str = "fp32") -> _Loop:
    """Training as it stands before its first step."""
    recipe, shape = structure.recipe, structure.shape
    settings = recipe.training.model_copy(
        update={"batch_size": 16, "early_stop": None, "precision": precision, "max_images": None}
    )
    images = np.random.default_rng(0).integers(0, 256, (320, *shape), dtype=np.uint8)
    labels = np.arange(len(images)) % 5 if hasattr(recipe.build(shape), "classes") else None
    found = _Loop(lambda: recipe.build(shape), images, settings, 0, folder, Runtime(),
                  Supervision(labels, images[:16]))  # fmt: skip
    found.resume()
    found.model.train()
    return found


def losses(training: _Loop) -> list[float]:
    """Of the first steps."""
    found = []
    for step in range(STEPS):
        training.sums.clear()
        training._one_step(step)
        training.state.step += 1
        found.append(training.sums.read().sums["loss"])
    return found


def agree(structure: Structure, folder: Path, backend: str) -> None:
    """The losses of the first steps and the weights after them, to float32's rounding."""
    torch._dynamo.reset()
    counters.clear()
    eager, compiled = loop(structure, folder), loop(structure, folder)
    compile_networks(compiled.model, backend)
    np.testing.assert_allclose(losses(compiled), losses(eager), rtol=1e-5)
    assert counters["stats"]["unique_graphs"] >= 1
    ours = compiled.model.state_dict()
    for name, value in eager.model.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("structure", one_of_each(), ids=lambda s: s.recipe.config.name)
def test_traced_and_eager_training_agree(structure: Structure, tmp_path: Path) -> None:
    """Every model, its networks traced forwards and backwards; run by torch's own operators."""
    agree(structure, tmp_path, "aot_eager")


@pytest.mark.slow
def test_compiled_and_eager_training_agree(tmp_path: Path) -> None:
    """Kernels made of what was traced: torch's part, shown for one model, since g++ is slow."""
    found = {s.recipe.config.name: s for s in one_of_each()}
    agree(found["mutation-classifier"], tmp_path, "inductor")


@pytest.mark.parametrize("structure", one_of_each(), ids=lambda s: s.recipe.config.name)
def test_networks_are_what_a_loss_calls(structure: Structure, tmp_path: Path) -> None:
    """Most of the weights lie in networks, and the loss calls every network that it trains."""
    training = loop(structure, tmp_path)
    model, called = training.model, set[nn.Module]()
    for network in networks(model):
        network.register_forward_hook(lambda module, *_: called.add(module))
    training._one_step(0)
    total = sum(p.numel() for p in model.parameters())
    inside = {id(p): p.numel() for n in called for p in n.parameters()}
    # The likelihood of the convolutional VAE calls its decoder's layers a quarter at a time.
    least = 0.03 if structure.recipe.config.name == "conv-vae" else 0.9
    assert sum(inside.values()) > least * total


@pytest.mark.parametrize("structure", one_of_each(), ids=lambda s: s.recipe.config.name)
def test_losses_are_float32_under_bfloat16(structure: Structure, tmp_path: Path) -> None:
    """Networks may multiply in bfloat16; what they give is summed in float32 at least."""
    training = loop(structure, tmp_path, "bf16")
    images, given = training.feed.step(0)
    with torch.autocast("cpu", torch.bfloat16):
        logged = training.model.loss(images, 1, **given)  # type: ignore[operator]
    assert {value.dtype for value in logged.values()} <= {torch.float32, torch.float64}
    assert all(torch.isfinite(value) for value in logged.values())
