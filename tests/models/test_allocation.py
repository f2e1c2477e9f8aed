"""Latent sizes from a budget, as a function and in a recipe."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.canonical_json import JSON
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.errors import ConfigError
from oodbench.models.hierarchical.allocation import allocate
from oodbench.models.hierarchical.config import HierarchicalConfig

GOLDEN = [
    (28, 0.25, [21, 5, 2]), (28, 0.5, [16, 8, 4]), (28, 0.7, [13, 9, 6]), (28, 1, [10, 9, 9]),
    (28, 1.25, [7, 9, 12]), (84, 0.3, [59, 18, 5, 1, 1]), (84, 0.5, [43, 22, 11, 5, 3]),
    (84, 0.7, [30, 21, 15, 11, 7]), (84, 1, [17, 17, 17, 17, 16]),
    (84, 1.25, [10, 13, 16, 20, 25]), (224, 0.5, [128, 64, 32]), (224, 0.9, [83, 74, 67]),
    (276, 0.5, [142, 71, 36, 18, 9]), (276, 0.6, [120, 72, 43, 26, 15]), (112, 0.5, [64, 32, 16]),
    # A quota below 1 that was raised to 1 does not compete again.
    (6, 0.5, [3, 2, 1]), (27, 0.5, [14, 7, 3, 2, 1]), (84, 0.25, [63, 15, 4, 1, 1]),
    (14, 0.25, [10, 3, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("budget", "ratio", "dims"), GOLDEN)
def test_golden_sizes(budget: int, ratio: float, dims: list[int]) -> None:
    assert allocate(budget, ratio, len(dims)) == dims


@given(st.integers(1, 8), st.integers(0, 300), st.floats(0.05, 4))
def test_the_budget_is_kept_and_no_layer_is_left_without(
    layers: int, more: int, ratio: float
) -> None:
    dims = allocate(layers + more, ratio, layers)
    assert sum(dims) == layers + more
    assert min(dims) >= 1
    assert dims == sorted(dims, reverse=ratio <= 1) or abs(ratio - 1) < 0.5 or min(dims) <= 2
    quotas = [ratio**i / sum(ratio**j for j in range(layers)) * sum(dims) for i in range(layers)]
    if min(quotas) >= 1:
        assert all(abs(d - q) < 1 + 1e-6 for d, q in zip(dims, quotas, strict=True))


@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.4, 0.5, 0.7, 0.9, 1.0, 1.25, 3.0])
def test_no_other_sizes_of_the_same_budget_are_nearer_to_the_quotas(
    layers: int, ratio: float
) -> None:
    """Every way of giving each layer at least 1, one after the other."""
    whole = sum(ratio**index for index in range(layers))
    for budget in range(layers, 15):
        quotas = [budget * ratio**index / whole for index in range(layers)]

        def distance(sizes: Sequence[int], quotas: Sequence[float] = quotas) -> float:
            return sum((d - q) ** 2 for d, q in zip(sizes, quotas, strict=True))

        every = itertools.product(range(1, budget + 1), repeat=layers - 1)
        sizes = [(*head, budget - sum(head)) for head in every if sum(head) < budget]
        assert distance(allocate(budget, ratio, layers)) <= min(map(distance, sizes)) + 1e-9


def overridden(recipe: str, **dims: JSON) -> HierarchicalConfig:
    found = resolve(find_recipe(recipe), "paper", "vanilla", {"model": {"dims": dims}})
    assert isinstance(found.config, HierarchicalConfig)
    return found.config


def test_a_budget_replaces_the_sizes_and_keeps_the_kinds() -> None:
    config = overridden("F3", budget=28, ratio=0.25, layers=3)
    latents = [(layer.latent.kind, layer.latent.dim) for layer in config.layers]
    assert latents == [("conv", 21), ("dense", 5), ("dense", 2)]


@pytest.mark.parametrize(("recipe", "budget"), [("F3", 28), ("C3", 224), ("N3", 112)])
def test_the_published_sizes_are_ratio_one_half(recipe: str, budget: int) -> None:
    """The very configuration, and so the very fit."""
    assert overridden(recipe, budget=budget, ratio=0.5, layers=3).model_dump() == resolve(
        find_recipe(recipe), "paper", "vanilla"
    ).config.model_dump(mode="python")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({"budget": 28, "ratio": 0.5, "layers": 2}, "dims is for 2 layers and the model has 3"),
        ({"budget": 2, "ratio": 0.5, "layers": 3}, "less than one unit for each of 3 layers"),
        ({"budget": 28, "rato": 0.5, "layers": 3}, "unknown key 'dims.rato'; nearest: ratio"),
        ({"budget": 28, "ratio": -1, "layers": 3}, r"dims\.ratio"),
    ],
)
def test_bad_budgets_are_refused(dims: dict[str, JSON], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overridden("F3", **dims)
