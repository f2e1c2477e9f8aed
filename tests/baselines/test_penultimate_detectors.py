"""ViM, ReAct and ASH against brute force, one image and one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from oodbench.baselines.ash import ActivationShaping
from oodbench.baselines.penultimate import PenultimateDetector
from oodbench.baselines.react import RectifiedActivations
from oodbench.baselines.vim import VirtualLogit
from oodbench.models.classifiers.config import ClassifierConfig
from oodbench.models.classifiers.image_classifier import ImageClassifier

CONV = {"kind": "conv", "channels": (4, 8), "hidden": 20}
TRAIN, TEST = 300, 15
Statistics = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.manual_seed(0)
    return ClassifierConfig(network=CONV, classes=5).build((1, 8, 8)).eval()  # type: ignore[arg-type]


def drawn(model: ImageClassifier, count: int, seed: int, dead: int = 0) -> Statistics:
    """Correlated features, a few of them 0 for each image, the first `dead` for all; logits."""
    draw = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(20, 20))
    features = np.maximum(draw.normal(size=(count, 20)) @ mixing + 2.0, 0.0)
    features[:, :dead] = 0.0
    weight, bias = layer(model)
    return {"features": features, "logits": features @ weight.T + bias}


def layer(model: ImageClassifier) -> tuple[np.ndarray, np.ndarray]:
    head = model.head
    return head.weight.detach().double().numpy(), head.bias.detach().double().numpy()


def on(detector: PenultimateDetector, model: ImageClassifier, dead: int = 0) -> np.ndarray:
    detector.attach([model])
    if detector.calibrates():
        detector.calibrate(drawn(model, TRAIN, 1, dead))
    return detector.score(drawn(model, TEST, 2, dead=0))


def energy(model: ImageClassifier, features: list[float]) -> float:
    weight, bias = layer(model)
    logits = [sum(w * h for w, h in zip(row, features, strict=True)) + c
              for row, c in zip(weight, bias, strict=True)]  # fmt: skip
    return -math.log(sum(math.exp(value) for value in logits))


@pytest.mark.parametrize("dead", [0, 5, 13])
def test_vim_is_the_residual_less_the_energy(model: ImageClassifier, dead: int) -> None:
    train, test = drawn(model, TRAIN, 1, dead), drawn(model, TEST, 2)
    weight, bias = layer(model)
    # The point of least norm among those whose logits are nearest to 0.
    origin = np.linalg.lstsq(weight, -bias, rcond=None)[0]
    away = train["features"] - origin
    _, sizes, directions = np.linalg.svd(away, full_matrices=True)
    kept = int((sizes > 1e-5 * sizes[0]).sum()) // 2

    def residual(features: np.ndarray) -> float:
        rest = features - origin
        for direction in directions[:kept]:
            rest = rest - (rest @ direction) * direction
        return math.sqrt(sum(value**2 for value in rest))

    factor = np.mean([max(row) for row in train["logits"]]) / np.mean(
        [residual(row) for row in train["features"]]
    )
    expected = [factor * residual(h) + energy(model, list(h)) for h in test["features"]]
    found = on(VirtualLogit(), model, dead)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    # It ranks as the probability of the virtual class among all.
    virtual = np.exp([factor * residual(h) for h in test["features"]])
    others = np.exp(test["logits"]).sum(axis=1)
    np.testing.assert_array_equal(np.argsort(found), np.argsort(virtual / (virtual + others)))


def test_what_leaves_the_principal_space_is_ood(model: ImageClassifier) -> None:
    detector = VirtualLogit()
    on(detector, model)
    test = drawn(model, TEST, 2)
    outside = detector.residual @ np.ones(detector.residual.shape[1])
    moved = test["features"] + 50.0 * outside
    same_logits = {"features": moved, "logits": test["logits"]}
    assert (detector.score(same_logits) > detector.score(test)).all()


def test_react_clips_at_the_percentile_of_all_activations(model: ImageClassifier) -> None:
    every = sorted(float(value) for value in drawn(model, TRAIN, 1)["features"].ravel())
    place = 0.9 * (len(every) - 1)
    low = math.floor(place)
    limit = every[low] + (place - low) * (every[low + 1] - every[low])
    test = drawn(model, TEST, 2)["features"]
    expected = [energy(model, [min(float(value), limit) for value in row]) for row in test]
    assert any(value > limit for value in test.ravel())
    np.testing.assert_allclose(on(RectifiedActivations(), model), expected, rtol=1e-12)


def test_ash_keeps_a_tenth_of_the_activations_and_scales_them(model: ImageClassifier) -> None:
    expected = []
    for row in drawn(model, TEST, 2)["features"]:
        largest = sorted(range(20), key=lambda unit: -row[unit])[:2]
        scale = math.exp(sum(row) / sum(row[unit] for unit in largest))
        shaped = [float(row[unit]) * scale if unit in largest else 0.0 for unit in range(20)]
        expected.append(energy(model, shaped))
    np.testing.assert_allclose(on(ActivationShaping(), model), expected, rtol=1e-12)


def test_an_image_without_activations_has_the_logits_of_the_bias(model: ImageClassifier) -> None:
    detector = ActivationShaping()
    detector.attach([model])
    _, bias = layer(model)
    found = detector.score({"features": np.zeros((1, 20)), "logits": bias[None]})
    np.testing.assert_allclose(found, -np.log(np.exp(bias).sum()))


@pytest.mark.parametrize("detector", [RectifiedActivations(), ActivationShaping()])
def test_a_sure_image_is_less_ood_than_a_faint_one(
    detector: PenultimateDetector, model: ImageClassifier
) -> None:
    """Features towards one class against the same at a tenth."""
    on(detector, model)
    weight, _ = layer(model)
    features = np.stack([np.maximum(weight[0], 0.0) * size for size in (10.0, 1.0)])
    sure, faint = detector.score({"features": features})
    assert sure < faint


def test_they_measure_once_and_score_with_the_model() -> None:
    kinds = (VirtualLogit, RectifiedActivations, ActivationShaping)
    assert {kind.measure_name for kind in kinds} == {"classifier-penultimate"}
    assert all(kind.scores_with_models and kind.category == "labels" for kind in kinds)
