"""DeLong's variance of the AUROC, its interval, the paired comparison of two detectors, Holm.

DeLong, DeLong and Clarke-Pearson 1988; computed by midranks as Sun and Xu 2014 (O(n log n)).
The sampling it describes is that of test images; it says nothing about training seeds.  Where
images depend on each other in groups, components are added up within one first (Obuchowski 1997).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from oodbench.rank import intervals
from oodbench.rank.intervals import excluded_share, order_of

#: (n,) the group of every image, None where every image stands alone.
Groups = np.ndarray | None


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing the mean of their ranks; (N,) float64."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def components(
    id_scores: np.ndarray, ood_scores: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """AUROC and DeLong's structural components of the OOD images (n_ood,) and ID images (n_id,).

    V_ood[i] = mean over ID of [s_i > s_j] + ½[s_i = s_j]; V_id[j] likewise over OOD.
    """
    n_id, n_ood = id_scores.size, ood_scores.size
    joint = midranks(np.concatenate([ood_scores, id_scores]))
    v_ood = (joint[:n_ood] - midranks(ood_scores)) / n_id
    v_id = 1.0 - (joint[n_ood:] - midranks(id_scores)) / n_ood
    return float(v_ood.mean()), v_ood, v_id


def delong(id_scores: np.ndarray, ood_scores: np.ndarray) -> tuple[float, float]:
    """AUROC and its variance; the variance is NaN where a side has a single image."""
    value, v_ood, v_id = components(id_scores, ood_scores)
    if v_ood.size < 2 or v_id.size < 2:
        return value, math.nan
    return value, float(v_ood.var(ddof=1) / v_ood.size + v_id.var(ddof=1) / v_id.size)


def auroc_interval(
    id_scores: np.ndarray, ood_scores: np.ndarray, level: float = 0.95
) -> tuple[float, float, float]:
    """AUROC with its interval, (value, low, high); `oodbench.rank.intervals` says how."""
    value, variance = delong(id_scores, ood_scores)
    order, smaller = order_of(id_scores, ood_scores), min(id_scores.size, ood_scores.size)
    return (value, *intervals.auroc_interval(value, variance, order, smaller, level))


def covariance_of_means(a: np.ndarray, b: np.ndarray, groups: Groups) -> float:
    """The covariance of the means of two components (n,), estimated over images or groups (n,).

    Over G groups, with S the sums of a group's deviations from the mean: G / (G − 1) Σ S_a S_b / n²
    (Obuchowski 1997).  NaN where there is one image or one group.
    """
    first, second = a - a.mean(), b - b.mean()
    if groups is not None:
        place = np.unique(groups, return_inverse=True)[1]
        first, second = (np.bincount(place, weights=d) for d in (first, second))
    count, images = int(first.size), float(a.size)
    if count < 2:
        return math.nan
    return float((first * second).sum()) * count / (count - 1) / (images * images)


@dataclass(frozen=True)
class PairedComparison:
    """Difference of two AUROCs on the same images, with DeLong's paired interval and test."""

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    n_id: int
    n_ood: int


def paired_delong(
    id_a: np.ndarray,
    ood_a: np.ndarray,
    id_b: np.ndarray,
    ood_b: np.ndarray,
    groups: tuple[Groups, Groups] = (None, None),
    level: float = 0.95,
) -> PairedComparison:
    """Compare two detectors scored on the same images in the same order; ValueError if not.

    `groups` (n_id,), (n_ood,) are those of images that depend on each other; None: each alone.
    Where DeLong's standard error is 0 or undefined, the test and the interval are exact
    (`_without_variance`).
    """
    if id_a.shape != id_b.shape or ood_a.shape != ood_b.shape:
        raise ValueError("both detectors must be scored on the same images")
    auc_a, ood_va, id_va = components(id_a, ood_a)
    auc_b, ood_vb, id_vb = components(id_b, ood_b)
    ood_d, id_d = ood_va - ood_vb, id_va - id_vb
    difference = auc_a - auc_b
    sides = (id_d, groups[0]), (ood_d, groups[1])
    error = math.sqrt(math.fsum(covariance_of_means(d, d, group) for d, group in sides))
    if error > 0:
        half = NormalDist().inv_cdf((1.0 + level) / 2.0) * error
        ends = difference - half, difference + half
        p_value = math.erfc(abs(difference) / error / math.sqrt(2.0))
    else:
        same = _same_in_every_pair((id_a, ood_a), (id_b, ood_b))
        smaller = min(d.size if group is None else np.unique(group).size for d, group in sides)
        ends, p_value = _without_variance(difference, smaller if same else 0, level)
    return PairedComparison(
        auc_a, auc_b, difference, error, *ends, p_value, id_a.size, ood_a.size
    )  # fmt: skip


def _same_in_every_pair(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether a ranks every ID–OOD pair as much better than b: always by the same difference."""
    if "mixed" not in (order_of(*a), order_of(*b)):
        return True
    return np.array_equal(midranks(np.concatenate(a)), midranks(np.concatenate(b)))


def _without_variance(
    difference: float, pairs: int, level: float
) -> tuple[tuple[float, float], float]:
    """(low, high) and p where a difference d is the same in all of m disjoint ID–OOD pairs.

    Each pair's difference lies in [−1, 1].  If its mean were 0, it would be d with a chance of at
    most 1/(1 + |d|): p = 2 (1 + |d|)^−m, the sign test's 2^(1 − m) for d = 1.  A share 1 − b of
    other pairs cannot be excluded (`oodbench.rank.intervals.excluded_share`), each as low as −1.
    Nothing is known for m = 0.
    """
    if not pairs:
        return (-1.0, 1.0), 1.0
    share = excluded_share(pairs, level)
    low = max(-1.0, difference * share - (1.0 - share))
    high = min(1.0, difference * share + (1.0 - share))
    return (low, high), min(1.0, 2.0 * (1.0 + abs(difference)) ** -pairs)


def holm(p_values: Sequence[float], comparisons: int = 0) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given.

    `comparisons`: how many there could have been, where those made were chosen by what was seen.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    count = max(len(p_values), comparisons)
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
