"""The test over training seeds and test images: its formula, its size, and what it is without."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from oodbench.leaderboards.paired_tests import seed_difference
from oodbench.rank.seeds_and_images import Matched, difference_of_areas
from oodbench.rank.significance import holm, paired_delong


def kernel(id_scores: np.ndarray, ood_scores: np.ndarray) -> np.ndarray:
    return np.asarray((ood_scores[:, None] > id_scores[None])
                      + 0.5 * (ood_scores[:, None] == id_scores[None]))  # fmt: skip


def covariance(one: Matched, side: int, other: Matched, other_side: int) -> float:
    """DeLong's covariance of two AUROCs on the same images, by its definition."""
    a, b = (kernel(m[2 * s], m[2 * s + 1]) for m, s in ((one, side), (other, other_side)))
    rows = np.cov(a.mean(1), b.mean(1))[0, 1] / a.shape[0]
    return float(rows + np.cov(a.mean(0), b.mean(0))[0, 1] / a.shape[1])


def drawn(
    generator: np.random.Generator, seeds: int, size: int, *,
    between: float = 0.0, of_images: float = 0.0,
) -> list[Matched]:  # fmt: skip
    """Two detectors that are equal but for chance: in their seeds, and in these images."""
    common = generator.normal(size=(2, size))
    own = of_images * generator.normal(size=(2, 2, size))
    out = []
    for _ in range(seeds):
        sides = []
        for detector in range(2):
            scores = common + own[detector] + 0.3 * generator.normal(size=(2, size))
            scores[1] += 1.0 + between * generator.normal()
            sides += [scores[0], scores[1]]
        out.append((sides[0], sides[1], sides[2], sides[3]))
    return out


def test_it_is_obuchowski_and_rockettes_with_hillis_degrees_of_freedom() -> None:
    """F = MS(T)/(MS(T×R) + R max(Cov2 − Cov3, 0)), readers being seeds, by definition."""
    matched = drawn(np.random.default_rng(0), 4, 45, between=0.2, of_images=0.5)
    count = len(matched)
    areas = np.array([[kernel(m[0], m[1]).mean(), kernel(m[2], m[3]).mean()] for m in matched])
    tests, readers, grand = areas.mean(0), areas.mean(1), areas.mean()
    ms_t = count * ((tests - grand) ** 2).sum()
    ms_tr = ((areas - tests - readers[:, None] + grand) ** 2).sum() / (count - 1)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    cov2 = np.mean([covariance(matched[i], t, matched[j], t) for i, j in pairs for t in (0, 1)])
    cov3 = np.mean([covariance(matched[i], t, matched[j], 1 - t) for i, j in pairs for t in (0, 1)])
    denominator = ms_tr + count * max(cov2 - cov3, 0.0)
    freedom = denominator**2 / (ms_tr**2 / (count - 1))
    found = difference_of_areas(matched)
    assert found.seeds == 4
    assert found.difference == pytest.approx(tests[0] - tests[1])
    assert found.p_value == pytest.approx(stats.f.sf(ms_t / denominator, 1, freedom), rel=1e-9)


def test_one_seed_is_delongs_paired_test() -> None:
    (matched,) = drawn(np.random.default_rng(1), 1, 60)
    expected = paired_delong(*matched)
    found = difference_of_areas([matched])
    assert (found.difference, found.error, found.p_value, found.seeds) == (
        expected.difference, expected.standard_error, expected.p_value, 1,
    )  # fmt: skip


def test_seeds_that_agree_leave_the_variance_of_images() -> None:
    (matched,) = drawn(np.random.default_rng(2), 1, 60)
    found, alone = difference_of_areas([matched] * 3), paired_delong(*matched)
    assert found.error == pytest.approx(alone.standard_error)
    assert found.p_value == pytest.approx(alone.p_value)


def test_where_nothing_varies_the_test_is_exact() -> None:
    a, b = np.arange(20.0), np.arange(20.0) + 50
    found = difference_of_areas([(a, b, -a, -b)] * 3)
    assert found.p_value == pytest.approx(2.0**-19)


def rejected(
    between: float, of_images: float, repetitions: int = 150
) -> tuple[float, float, float]:
    """How often equal detectors differ at 5 %: by both, by seeds alone, by images of one seed."""
    generator, counts = np.random.default_rng(3), np.zeros(3)
    for _ in range(repetitions):
        matched = drawn(generator, 5, 60, between=between, of_images=of_images)
        one_by_one = [paired_delong(*m) for m in matched]
        by_seeds = seed_difference([found.difference for found in one_by_one])
        counts += [difference_of_areas(matched).p_value < 0.05, by_seeds.p_value < 0.05,
                   one_by_one[0].p_value < 0.05]  # fmt: skip
    both, seeds, images = counts / repetitions
    return float(both), float(seeds), float(images)


def test_equal_detectors_differ_as_seldom_as_it_says_whatever_varies() -> None:
    both, by_seeds, _ = rejected(between=0.0, of_images=0.7)
    assert both <= 0.09
    assert by_seeds > 0.3
    both, _, by_images = rejected(between=0.4, of_images=0.0)
    assert both <= 0.09
    assert by_images > 0.3


# ---------------------------------------------------------------------- Holm after a look
def test_holm_counts_the_comparisons_that_might_have_been() -> None:
    """0.004·10, 0.006·9, 0.5·8."""
    assert holm([0.006, 0.5, 0.004], 10) == pytest.approx([0.054, 1.0, 0.04])
    assert holm([0.01, 0.02], 1) == holm([0.01, 0.02])


def test_equal_rows_keep_their_mark_in_19_of_20_tables() -> None:
    """Against the best as observed; Holm over k − 1 loses some in twice as many tables."""
    generator, tables, rows = np.random.default_rng(4), 200, 10
    lost = dict.fromkeys((rows - 1, rows * (rows - 1) // 2), 0)
    for _ in range(tables):
        common = generator.normal(size=(2, 80))
        scores = [common + generator.normal(size=(2, 80)) + [[0.0], [1.0]] for _ in range(rows)]
        areas = [kernel(*side).mean() for side in scores]
        best = scores[int(np.argmax(areas))]
        p = [paired_delong(*best, *other).p_value for other in scores if other is not best]
        for comparisons in lost:
            lost[comparisons] += min(holm(p, comparisons)) < 0.05
    assert lost[45] / tables <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)
    assert lost[9] / tables > 0.1
