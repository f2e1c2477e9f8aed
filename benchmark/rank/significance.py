"""DeLong's variance of the AUROC, its interval, the paired comparison of two detectors, Holm.

DeLong, DeLong and Clarke-Pearson 1988; computed by midranks as Sun and Xu 2014 (O(n log n)).
The sampling it describes is that of test images; it says nothing about training seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


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
    """AUROC with its interval, (value, low, high), on the logit scale so that it stays in [0, 1].

    Where DeLong's variance is 0 (perfect separation) or undefined, the far end is the exact
    Clopper–Pearson bound of m successes in m trials, ((1 − level)/2)^(1/m), m the smaller side:
    m independent ID–OOD pairs can be formed without using an image twice.
    """
    value, variance = delong(id_scores, ood_scores)
    smaller = min(id_scores.size, ood_scores.size)
    if not variance > 0 or value in (0.0, 1.0):
        bound = ((1.0 - level) / 2.0) ** (1.0 / smaller)
        return (
            value,
            min(value, bound if value > 0.5 else 0.0),
            max(value, 1.0 - bound if value < 0.5 else 1.0),
        )
    centre = math.log(value / (1.0 - value))
    half = NormalDist().inv_cdf((1.0 + level) / 2.0) * math.sqrt(variance) / (value * (1.0 - value))

    def back(logit: float) -> float:
        return 1.0 / (1.0 + math.exp(-logit)) if logit > -700 else 0.0

    return value, back(centre - half), back(centre + half)


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
    id_a: np.ndarray, ood_a: np.ndarray, id_b: np.ndarray, ood_b: np.ndarray, level: float = 0.95
) -> PairedComparison:
    """Compare two detectors scored on the same images in the same order; ValueError if not."""
    if id_a.shape != id_b.shape or ood_a.shape != ood_b.shape:
        raise ValueError("both detectors must be scored on the same images")
    auc_a, ood_va, id_va = components(id_a, ood_a)
    auc_b, ood_vb, id_vb = components(id_b, ood_b)
    ood_d, id_d = ood_va - ood_vb, id_va - id_vb
    error = math.sqrt(ood_d.var(ddof=1) / ood_d.size + id_d.var(ddof=1) / id_d.size)
    difference = auc_a - auc_b
    half = NormalDist().inv_cdf((1.0 + level) / 2.0) * error
    if error > 0:
        p_value = math.erfc(abs(difference) / error / math.sqrt(2.0))
    else:
        p_value = 1.0 if difference == 0 else 0.0
    return PairedComparison(
        auc_a, auc_b, difference, error, difference - half, difference + half, p_value,
        id_a.size, ood_a.size,
    )  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
