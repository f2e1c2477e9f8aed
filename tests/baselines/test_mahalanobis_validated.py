"""MD with weighted stages: what the regression finds on constructed distances."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import stats

from oodbench.baselines.mahalanobis import EPSILONS
from oodbench.baselines.mahalanobis_validated import ValidatedMahalanobis
from oodbench.rank.metrics import auroc

STAGES = 3


def distances(
    count: int, seed: int, shift: dict[int, np.ndarray], cov: np.ndarray
) -> dict[str, np.ndarray]:
    """Normal distances (N, ε × stages), those of step ε moved by `shift`."""
    draw = np.random.default_rng(seed)
    root = np.linalg.cholesky(cov)
    steps = [
        draw.normal(size=(count, STAGES)) @ root.T + 20.0 + shift.get(step, np.zeros(STAGES))
        for step in range(len(EPSILONS))
    ]
    return {"distance": np.concatenate(steps, axis=1)}


def weights(choice: str) -> list[float]:
    return [float(value) for value in re.findall(r"-?\d+\.\d\d", choice.split(":")[1])]


def test_it_reaches_the_auroc_of_two_gaussians() -> None:
    """Φ(Δ/√2) with Δ the Mahalanobis distance of the means, which no weights exceed."""
    cov = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.3], [0.0, 0.3, 1.0]])
    shift = np.array([1.0, 0.0, 0.5])
    away = dict.fromkeys(range(len(EPSILONS)), shift)
    detector = ValidatedMahalanobis()
    choice = detector.choose(distances(2000, 0, {}, cov), distances(2000, 1, away, cov))
    sides = [
        detector.scores(distances(20_000, seed, move, cov))["MD"]
        for seed, move in ((2, {}), (3, away))
    ]
    best = stats.norm.cdf(np.sqrt(shift @ np.linalg.inv(cov) @ shift / 2))
    single = stats.norm.cdf(shift[0] / np.sqrt(2))
    assert best > single + 0.05
    assert auroc(*sides) == pytest.approx(best, abs=0.01)
    # The second stage says nothing by itself, but corrects the others: the best weight is negative.
    assert np.linalg.inv(cov)[1] @ shift < 0
    assert weights(choice)[1] < 0


def test_the_weight_is_on_the_stage_that_tells() -> None:
    away = dict.fromkeys(range(len(EPSILONS)), np.array([0.0, 2.0, 0.0]))
    detector, cov = ValidatedMahalanobis(), np.eye(STAGES)
    first, second, third = weights(
        detector.choose(distances(1500, 0, {}, cov), distances(1500, 1, away, cov))
    )
    assert second > 5 * max(abs(first), abs(third))


def test_the_step_that_separates_is_chosen_on_images_that_did_not_fit_the_weights() -> None:
    away = {3: np.array([3.0, 0.0, 0.0])}
    detector, cov = ValidatedMahalanobis(), np.eye(STAGES)
    inside, outside = distances(1200, 0, {}, cov), distances(1200, 1, away, cov)
    assert detector.choose(inside, outside).startswith(f"MD ε={EPSILONS[3]:g}, weights of")
    assert detector.score_names() == ["MD"]
    assert detector.oracles() == {}
    again = ValidatedMahalanobis()
    assert again.choose(inside, outside) == detector.choose(inside, outside)
    np.testing.assert_array_equal(again.scores(inside)["MD"], detector.scores(inside)["MD"])


def test_few_images_serve_too() -> None:
    away = dict.fromkeys(range(len(EPSILONS)), np.array([3.0, 0.0, 0.0]))
    detector, cov = ValidatedMahalanobis(), np.eye(STAGES)
    detector.choose(distances(30, 0, {}, cov), distances(21, 1, away, cov))
    low, high = (detector.scores(distances(200, 2, s, cov))["MD"] for s in ({}, away))
    assert auroc(low, high) > 0.9
