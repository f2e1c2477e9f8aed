"""Generic detectors of a hierarchical model that gives its own statistics."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import ClassVar, cast

import numpy as np
import pytest
import torch

from oodbench.baselines.generic import HierarchicalDetector, generic_detectors
from oodbench.declare.recipes import MODELS, Recipe, register_model
from oodbench.detect.detector import DETECTORS
from oodbench.errors import PluginError
from oodbench.models.config import Frozen
from oodbench.seeding import KeyedNoise


class Made(torch.nn.Module):
    """Two layers whose statistics are chosen, not learned."""

    def statistics(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        value = images.double().flatten(1).mean(1)
        kl = torch.stack([value + 1, value + 2], 1)
        nll = torch.stack([3 * value, 5 * value], 1)
        upper = torch.stack([0 * value, 2 * value + 4], 1)
        return {"elbo": -nll[:, 0] - kl.sum(1), "nll": nll, "kl_0": kl, "kl_1": upper}


@pytest.fixture
def made() -> Iterator[HierarchicalDetector]:
    held = [(r, dict(r._objects)) for r in (DETECTORS, MODELS)]

    @generic_detectors(title="Made", hierarchical=True)
    @register_model
    class MadeConfig(Frozen):
        name: ClassVar[str] = "made"
        revision: ClassVar[int] = 1
        layers: int = 2

        def build(self, shape: tuple[int, int, int]) -> Made:
            return Made()

    detector = cast(HierarchicalDetector, DETECTORS.get("made")())
    detector.recipe = cast(Recipe, SimpleNamespace(config=MadeConfig()))
    detector.attach([Made()])
    yield detector
    for registry, objects in held:
        registry._objects = objects  # type: ignore[attr-defined]


def measured(detector: HierarchicalDetector) -> dict[str, np.ndarray]:
    images = torch.arange(3, dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    found = detector.measure(images, KeyedNoise(0, np.arange(3)))
    return {name: value.numpy() for name, value in found.items()}


def test_the_scores_follow_from_the_statistics(made: HierarchicalDetector) -> None:
    values = np.arange(3.0)
    found = made.scores(measured(made))
    elbo = -3 * values - (2 * values + 3)
    bound = -5 * values - 2 * (values + 2)  # −NLL_1 − KL_2 of the branch 1
    np.testing.assert_allclose(found["L"], -elbo)
    np.testing.assert_allclose(found["LLR>1"], elbo - bound)
    assert set(made.score_names()) == set(found)
    assert {"LLR_ada", "LLR_optk"} <= set(found)
    sides = made.diagnose(measured(made), {}, (1, 8, 8))
    assert sides["bits_per_dim"] == pytest.approx(-elbo.mean() / (64 * np.log(2)))
    assert sides["kl_nats"] == [2.0, 3.0]


def test_typicality_and_input_complexity_come_with_it(made: HierarchicalDetector) -> None:
    assert "waic-made" not in DETECTORS.names()
    typicality = DETECTORS.get("typicality-made")()
    statistics = measured(made)
    typicality.calibrate(statistics)
    entropy = -statistics["elbo"].mean()
    np.testing.assert_allclose(
        typicality.scores(statistics)["typicality"], abs(-statistics["elbo"] - entropy)
    )
    assert type(typicality).measure_name == "made"
    complexity = cast(HierarchicalDetector, DETECTORS.get("input-complexity-made")())
    complexity.recipe, complexity.model = made.recipe, made.model
    with_codes = measured(complexity)
    shortest = np.min([with_codes[name] for name in ("png", "webp", "jpeg2000")], axis=0)
    np.testing.assert_allclose(
        complexity.scores(with_codes)["S"], -with_codes["elbo"] / np.log(2) - shortest
    )
    assert DETECTORS.get("input-complexity-made").category == "prior"


def test_a_missing_statistic_is_named(
    made: HierarchicalDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Made, "statistics", lambda self, images, noise: {"elbo": images.sum()})
    with pytest.raises(PluginError, match=r"must give 'elbo' of shape \(3,\)"):
        measured(made)
    full = {"elbo": torch.ones(3), "nll": torch.ones(3, 2)}
    full |= {"kl_0": torch.ones(3, 2), "kl_1": torch.ones(3, 2)}
    monkeypatch.setattr(Made, "statistics", lambda self, images, noise: full)
    with pytest.raises(PluginError, match="must be 0 for the k lowest layers"):
        measured(made)
