"""Metrics against golden numbers, scikit-learn and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from oodbench.errors import DataError
from oodbench.rank.metrics import (
    Metrics,
    auroc,
    average_precision,
    equal_size,
    evaluate,
    fpr_at_tpr,
    summarise_seeds,
)

SCORES = st.lists(st.integers(-4, 4), min_size=2, max_size=40).map(
    lambda values: np.array(values, dtype=float)
)


def joined(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([np.zeros(len(a)), np.ones(len(b))]), np.concatenate([a, b])


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "expected"),
    [
        ([0, 1, 2, 3], [2.5, 3.5, 4.5, 5.5], (0.9375, 0.95, 0.25)),
        ([0, 0, 1, 1], [0, 1, 1, 2], (0.6875, 0.675, 1.0)),
    ],
)
def test_golden(
    id_scores: list[float], ood_scores: list[float], expected: tuple[float, float, float]
) -> None:
    a, b = np.array(id_scores, float), np.array(ood_scores, float)
    assert (auroc(a, b), average_precision(a, b), fpr_at_tpr(a, b, 0.8)) == pytest.approx(expected)


def test_floor_of_average_precision_in_a_balanced_test() -> None:
    a, b = np.arange(10_000.0) + 10_000, np.arange(10_000.0)
    assert average_precision(a, b) == pytest.approx(0.30688, abs=5e-6)
    assert auroc(a, b) == 0.0
    assert fpr_at_tpr(a, b, 0.8) == 1.0


@settings(deadline=None)
@given(SCORES, SCORES)
def test_against_scikit_learn_and_brute_force(a: np.ndarray, b: np.ndarray) -> None:
    labels, scores = joined(a, b)
    assert auroc(a, b) == pytest.approx(roc_auc_score(labels, scores))
    pairs = (b[:, None] > a[None]).mean() + 0.5 * (b[:, None] == a[None]).mean()
    assert auroc(a, b) == pytest.approx(pairs)
    assert average_precision(a, b) == pytest.approx(average_precision_score(labels, scores))
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.5, 0.8, 0.95, 1.0):
        expected = fpr[np.flatnonzero(tpr >= rate - 1e-12)[0]]
        assert fpr_at_tpr(a, b, rate) == pytest.approx(expected)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_only_the_order_counts_and_the_sign_reverses(a: np.ndarray, b: np.ndarray) -> None:
    def transform(x: np.ndarray) -> np.ndarray:
        return np.exp(x / 3) + 7

    assert auroc(transform(a), transform(b)) == pytest.approx(auroc(a, b))
    assert average_precision(transform(a), transform(b)) == pytest.approx(average_precision(a, b))
    assert auroc(-a, -b) == pytest.approx(1 - auroc(a, b))


def test_true_positive_rate_is_reached_exactly_despite_binary_fractions() -> None:
    """0.8 · 5 is 4 images; a float error must not ask for the fifth."""
    a, b = np.array([0.5]), np.array([5.0, 4.0, 3.0, 2.0, 0.0])
    assert fpr_at_tpr(a, b, 0.8) == 0.0


def test_bootstrap_covers_and_repeats() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(0, 1, 400), generator.normal(1.5, 1, 400)
    first, second = evaluate(a, b), evaluate(a, b)
    assert first == second
    for name in ("auroc", "auprc", "fpr80", "fpr95"):
        interval = getattr(first, name)
        assert interval.low <= interval.value <= interval.high
    truth = 0.5 * (1 + math.erf(1.5 / 2))
    assert first.auroc.low < truth < first.auroc.high
    assert Metrics.from_json(first.to_json()) == first


def test_every_interval_holds_its_value() -> None:
    """Where every OOD score is below all ID scores, AUPRC has its least value, below all draws."""
    found = evaluate(np.arange(100.0, 200.0), np.arange(100.0), resamples=200)
    least = 1 - (1 / np.arange(101, 201)).sum()
    assert found.auprc.value == pytest.approx(least)
    for interval in (found.auroc, found.auprc, found.fpr80, found.fpr95):
        assert interval.low <= interval.value <= interval.high


def test_bootstrap_interval_agrees_with_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(0, 1, 150), generator.normal(1, 1, 150)
    interval = evaluate(a, b, resamples=2000).auprc
    values = []
    for _ in range(2000):
        resampled = joined(generator.choice(a, 150), generator.choice(b, 150))
        values.append(average_precision_score(*resampled))
    low, high = np.quantile(values, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.01)


def test_bad_scores_are_named() -> None:
    good = np.zeros(3)
    with pytest.raises(DataError, match="OOD score of image 1 is nan"):
        auroc(good, np.array([0.0, np.nan, 1.0]))
    with pytest.raises(DataError, match="non-empty"):
        auroc(np.array([]), good)


def test_equal_size_cuts_the_larger_side_to_a_fixed_subset() -> None:
    id_index, ood_index = equal_size(100, 260)
    assert len(id_index) == len(ood_index) == 100
    assert len(set(ood_index)) == 100
    assert np.array_equal(ood_index, equal_size(100, 260)[1])
    assert np.array_equal(id_index, np.arange(100))
    assert not np.array_equal(ood_index, np.arange(100))


def test_seeds_are_summarised_with_the_sample_deviation() -> None:
    a = np.arange(10.0)
    runs = [evaluate(a, a + shift, resamples=10) for shift in (1, 2, 4)]
    values = [run.auroc.value for run in runs]
    summary = summarise_seeds(runs)["auroc"]
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summarise_seeds(runs[:1])["auroc"].sd is None
