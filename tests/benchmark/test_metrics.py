"""Metrics against golden numbers, scikit-learn and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interval_coverage import held
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from oodbench.errors import DataError
from oodbench.rank.intervals import Order, auprc_interval, clopper_pearson
from oodbench.rank.intervals import auroc_interval as auroc_ends
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


SIDES = st.one_of(
    st.tuples(SCORES, SCORES),
    st.tuples(st.integers(1, 30), st.integers(1, 30)).map(
        lambda n: (np.arange(n[0], dtype=float), np.arange(n[1], dtype=float) + 40)
    ),
    st.tuples(st.integers(1, 30), st.integers(1, 30)).map(
        lambda n: (np.zeros(n[0]), np.zeros(n[1]))
    ),
)


@settings(deadline=None, max_examples=150)
@given(SIDES, st.booleans())
def test_every_interval_holds_its_value_and_has_a_width(
    sides: tuple[np.ndarray, np.ndarray], reverse: bool
) -> None:
    found = evaluate(*(sides[::-1] if reverse else sides), resamples=50)
    for interval in (found.auroc, found.auprc, found.fpr80, found.fpr95):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.high - interval.low > 1e-3


def test_bootstrap_percentiles_agree_with_a_plain_loop() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(0, 1, 150), generator.normal(1, 1, 150)
    found = evaluate(a, b, resamples=800)
    areas, rates = [], []
    for _ in range(800):
        labels, scores = joined(generator.choice(a, 150), generator.choice(b, 150))
        areas.append(average_precision_score(labels, scores))
        fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
        rates.append(fpr[np.flatnonzero(tpr >= 0.8 - 1e-12)[0]])
    # AUPRC: t(149) · √(150/149) standard deviations on the logit scale.
    value, spread = found.auprc.value, 1.9827 * np.std(areas)
    step = spread / (value * (1 - value))
    assert found.auprc.high == pytest.approx(expit(logit(value) + step), abs=0.005)
    assert found.auprc.low == pytest.approx(expit(logit(value) - step), abs=0.01)
    low, high = np.quantile(rates, [0.0237, 0.9763])  # Φ(∓1.9827)
    assert (found.fpr80.low, found.fpr80.high) == (
        pytest.approx(low, abs=0.02),
        pytest.approx(high, abs=0.02),
    )


# ---------------------------------------------------------------------- exact intervals
@pytest.mark.parametrize("count", [1, 2, 7, 50, 1000])
def test_clopper_pearson_is_that_of_scipy(count: int) -> None:
    for successes in {0, 1, count // 2, count}:
        expected = stats.binomtest(successes, count).proportion_ci(0.95, method="exact")
        low, high = clopper_pearson(successes, count)
        assert (low, high) == (pytest.approx(expected.low), pytest.approx(expected.high))


STEPS = 12


@pytest.mark.parametrize(("n_id", "n_ood"), [(2, 2), (50, 50), (40, 10), (10, 40)])
def test_no_distribution_outside_an_exact_interval_gives_its_order_often(
    n_id: int, n_ood: int
) -> None:
    """Random pairs of distributions over twelve steps: where an order has a chance above α/2 in a
    test set, the AUROC and AUPRC of the distributions lie in that order's interval."""
    generator = np.random.default_rng(7)
    met = dict.fromkeys(("separated", "reversed", "constant"), 0)
    for _ in range(1500):
        p, q = _distributions(generator, n_id, n_ood)
        area = float(sum(q[i] * (p[:i].sum() + p[i] / 2) for i in range(STEPS)))
        above_q, above_p = np.cumsum(q[::-1]), np.cumsum(p[::-1])
        precision = above_q / np.maximum(above_q + n_id / n_ood * above_p, 1e-300)
        auprc = float((q[::-1] * precision).sum())
        for order, chance in _chances(p, q, n_id, n_ood).items():
            if chance < 0.025:
                continue
            met[order] += 1
            low, high = auroc_ends(math.nan, math.nan, order, min(n_id, n_ood))
            assert low - 1e-9 <= area <= high + 1e-9
            low, high = auprc_interval(0.0, 0.0, np.zeros(0), order, n_id, n_ood)
            assert low - 1e-9 <= auprc
            assert order == "reversed" or auprc <= high + 1e-9
    assert min(met.values()) > 40


def _distributions(
    generator: np.random.Generator, n_id: int, n_ood: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chances (12,) of ID and OOD scores: any, or two that leave a plain order just possible."""
    p, q = generator.dirichlet([10.0 ** generator.uniform(-2, 1)] * STEPS, size=2)
    if generator.random() < 0.5:
        return p, q
    first = np.eye(STEPS)[generator.integers(4, 7)]
    spread = np.zeros(STEPS)
    spread[generator.integers(1, 6) : generator.integers(7, 12)] = 1
    second = spread / spread.sum() if generator.random() < 0.5 else np.eye(STEPS)[5]
    beside = generator.choice(3)
    weights = [0.025 ** (1 / n_id), 0.025 ** (1 / n_ood)]
    mixed = [w * side + (1 - w) * generator.dirichlet([0.1] * STEPS)
             for w, side in zip(weights, (first, second), strict=True)]  # fmt: skip
    return (mixed[0] if beside != 1 else first), (mixed[1] if beside != 0 else second)


def _chances(p: np.ndarray, q: np.ndarray, n_id: int, n_ood: int) -> dict[Order, float]:
    """The chance of each exact order in a test set of n_id images of p and n_ood of q."""
    below_p, below_q = (np.concatenate([[0.0], np.cumsum(side)]) for side in (p, q))
    highest_id = np.diff(below_p**n_id)
    lowest_id = -np.diff(np.clip(1 - below_p, 0, 1) ** n_id)
    return {
        "separated": float((highest_id * np.clip(1 - below_q[1:], 0, 1) ** n_ood).sum()),
        "reversed": float((lowest_id * below_q[:-1] ** n_ood).sum()),
        "constant": float((p**n_id * q**n_ood).sum()),
    }


def test_a_share_of_images_above_all_others_is_the_worst_that_is_left() -> None:
    """n = 50 continuous scores: 7.1 % of ID above all OOD, or of OOD above all ID."""
    few, n = 1 - 0.025 ** (1 / 50), 200_000
    ranks = np.arange(n, dtype=float)
    shifted = ranks + np.where(ranks >= (1 - few) * n, 3.0 * n, 0.0)
    found = evaluate(np.arange(50.0), np.arange(50.0) + 60)
    worst = average_precision_score(*joined(shifted, ranks + 1.5 * n))
    assert found.auprc.low == pytest.approx(worst, abs=1e-4)
    found = evaluate(np.arange(50.0) + 60, np.arange(50.0))
    best = average_precision_score(*joined(ranks + 1.5 * n, shifted))
    assert found.auprc.low == pytest.approx(1 - math.log(2))
    assert best <= found.auprc.high <= best + 0.01


def test_constant_scores_say_a_little_by_every_metric() -> None:
    """0.025^(1/50) = 0.9289: at least that share of pairs is tied."""
    found = evaluate(np.zeros(50), np.zeros(50))
    assert (found.auroc.low, found.auroc.high) == pytest.approx((0.4644, 0.5356), abs=1e-4)
    assert (found.auprc.low, found.auprc.high) == pytest.approx((0.4816, 0.5356), abs=1e-4)
    assert (found.fpr80.low, found.fpr80.high) == pytest.approx((0.9289, 1.0), abs=1e-4)


# ---------------------------------------------------------------------- coverage
@pytest.mark.slow
@pytest.mark.parametrize("size", [50, 500])
@pytest.mark.parametrize("area", [0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
def test_intervals_hold_the_truth_about_as_often_as_they_say(size: int, area: float) -> None:
    """The table of the docs with fewer repetitions; two standard errors of 300 are 2.5 points."""
    shares = held(size, area, 300, resamples=200)
    assert min(shares.values()) >= 0.89, shares
    if area == 0.5:
        assert max(shares["auroc"], shares["auprc"], shares["difference"]) <= 0.985


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
