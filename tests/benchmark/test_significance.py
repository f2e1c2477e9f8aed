"""DeLong against its definition, against a bootstrap, and Holm by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from oodbench.rank.significance import auroc_interval, delong, holm, midranks, paired_delong


def by_definition(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kernel = (b[:, None] > a[None]) + 0.5 * (b[:, None] == a[None])
    return kernel.mean(1), kernel.mean(0)


@pytest.mark.parametrize("ties", [False, True])
def test_variance_is_that_of_the_structural_components(ties: bool) -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(0, 1, 57), generator.normal(0.7, 2, 83)
    if ties:
        a, b = np.round(a), np.round(b)
    v_ood, v_id = by_definition(a, b)
    value, variance = delong(a, b)
    assert value == pytest.approx(v_ood.mean())
    assert variance == pytest.approx(v_ood.var(ddof=1) / 83 + v_id.var(ddof=1) / 57)


def test_variance_agrees_with_a_bootstrap() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(0, 1, 300), generator.normal(1, 1, 300)
    values = [delong(generator.choice(a, 300), generator.choice(b, 300))[0] for _ in range(1500)]
    assert np.sqrt(delong(a, b)[1]) == pytest.approx(np.std(values), rel=0.1)


def test_interval_covers_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    truth, hits = 0.7602499389065233, 0  # Φ(1/√2)
    for _ in range(400):
        _, low, high = auroc_interval(generator.normal(0, 1, 60), generator.normal(1, 1, 60))
        hits += low <= truth <= high
    assert 0.91 <= hits / 400 <= 0.985


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_separation_still_has_an_interval(sign: int) -> None:
    a, b = sign * np.arange(50.0), sign * (np.arange(50.0) + 100)
    value, low, high = auroc_interval(a, b)
    bound = 0.025 ** (1 / 50)
    expected = (1.0, bound, 1.0) if sign > 0 else (0.0, 0.0, 1 - bound)
    assert (value, low, high) == pytest.approx(expected)


def test_one_image_of_a_side_says_nothing_of_the_area() -> None:
    assert auroc_interval(np.array([1.5]), np.arange(4.0)) == (0.5, 0.0, 1.0)


def test_paired_comparison_by_brute_force_covariance() -> None:
    generator = np.random.default_rng(3)
    base_id, base_ood = generator.normal(0, 1, 70), generator.normal(1, 1, 90)
    other_id = base_id + 0.5 * generator.normal(size=70)
    other_ood = base_ood + 0.5 * generator.normal(size=90)
    (ood_a, id_a), (ood_b, id_b) = (
        by_definition(base_id, base_ood),
        by_definition(other_id, other_ood),
    )
    covariance = np.cov(ood_a, ood_b) / 90 + np.cov(id_a, id_b) / 70
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    result = paired_delong(base_id, base_ood, other_id, other_ood)
    assert result.standard_error == pytest.approx(np.sqrt(expected))
    assert result.difference == pytest.approx(ood_a.mean() - ood_b.mean())
    unpaired = np.sqrt(covariance[0, 0] + covariance[1, 1])
    assert result.standard_error < unpaired


def test_equal_detectors_do_not_differ() -> None:
    a, b = np.arange(20.0), np.arange(20.0) + 3
    result = paired_delong(a, b, a, b)
    assert (result.difference, result.p_value) == (0.0, 1.0)


@pytest.mark.parametrize("count", [1, 5, 50])
def test_a_perfect_detector_against_a_reversed_one_is_a_sign_test(count: int) -> None:
    """Every one of m disjoint pairs is ranked rightly by one and wrongly by the other."""
    a, b = np.arange(count), np.arange(count) + 100
    result = paired_delong(a, b, -a, -b)
    assert result.difference == 1.0
    assert result.p_value == pytest.approx(min(1.0, stats.binomtest(count, count).pvalue))
    share = 0.025 ** (1 / count)
    assert (result.low, result.high) == (pytest.approx(2 * share - 1), 1.0)


def test_a_perfect_detector_against_a_constant_one_is_tested_exactly() -> None:
    """A pair's difference of ½ whose mean is 0 has a chance of at most 2/3: the rest are −1."""
    a, b = np.arange(30.0), np.arange(30.0) + 100
    result = paired_delong(a, b, np.zeros(30), np.zeros(30))
    assert result.p_value == pytest.approx(2 * (2 / 3) ** 30)
    assert result.low < 0.5 < result.high


def test_equal_rankings_differ_by_little_with_every_certainty() -> None:
    generator = np.random.default_rng(5)
    a, b = generator.normal(size=40), generator.normal(size=40)
    result = paired_delong(a, b, np.exp(a), np.exp(b))
    few = 1 - 0.025 ** (1 / 40)
    assert (result.low, result.high, result.p_value) == (
        pytest.approx(-few), pytest.approx(few), 1.0,
    )  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("n_id", "n_ood"), [(1, 1), (1, 30), (30, 1)])
def test_one_image_of_a_side_tells_no_detectors_apart(n_id: int, n_ood: int) -> None:
    a, b = np.arange(n_id, dtype=float), np.arange(n_ood, dtype=float) + 9.5
    result = paired_delong(a, b, np.sin(a), np.cos(b))
    assert result.p_value == 1.0
    assert result.high - result.low >= 1.0
    assert np.isnan(result.standard_error)


def test_a_tiny_p_value_is_not_zero() -> None:
    generator = np.random.default_rng(4)
    id_scores, ood_scores = generator.normal(0, 1, 400), generator.normal(3, 1, 400)
    chance = generator.normal(0, 1, 800)
    result = paired_delong(id_scores, ood_scores, chance[:400], chance[400:])
    z = abs(result.difference) / result.standard_error
    assert z > 15
    assert result.p_value == pytest.approx(2 * float(ndtr(-z)), rel=1e-9)
    assert result.p_value > 0


def test_midranks() -> None:
    assert midranks(np.array([10.0, 20.0, 10.0, 5.0])).tolist() == [2.5, 4.0, 2.5, 1.0]


def test_holm_by_hand() -> None:
    """0.01·4, 0.03·3, max(0.09, 0.04·2), max(0.09, 0.05·1)."""
    assert holm([0.04, 0.01, 0.03, 0.05]) == pytest.approx([0.09, 0.04, 0.09, 0.09])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
