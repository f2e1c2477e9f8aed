"""The difference of two AUROCs where both training seeds and test images could have been others.

Obuchowski and Rockette 1995 for readers and cases, here training seeds and test images.  With
d_s = AUROC_A − AUROC_B of seed s, all on the same images,

    Var(mean d) = S²/R + max(0, C)

S² is the sample variance of d_s over the R seeds (which the images that all share do not enter), C
the mean covariance of d_s and d_t over pairs of seeds, from DeLong's components: what other images
would change for every seed alike.  The test is Student's with Hillis's degrees of freedom (2007),
(S²/R + C)² (R − 1)/(S²/R)².  One seed leaves DeLong's paired test, of images alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from oodbench.rank.significance import Groups, components, covariance_of_means, paired_delong

#: ID and OOD scores of A, ID and OOD scores of B: (n_id,), (n_ood,), (n_id,), (n_ood,).
Matched: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """AUROC of A minus that of B, fractions, averaged over `seeds`; `error` is its standard one."""

    difference: float
    error: float
    p_value: float
    seeds: int


def difference_of_areas(
    seeds: Sequence[Matched], groups: tuple[Groups, Groups] = (None, None)
) -> Difference:
    """The comparison over one seed or more; ValueError where seeds hold other images.

    `groups` are those of dependent ID and OOD images, as `paired_delong` takes them.
    Where neither seeds nor images let the difference vary, the exact test of `paired_delong`.
    """
    first = paired_delong(*seeds[0], groups)
    if len(seeds) == 1:
        return Difference(first.difference, first.standard_error, first.p_value, 1)
    found = [_differences(*matched) for matched in seeds]
    if len({(ood.size, id_.size) for _, ood, id_ in found}) > 1:
        raise ValueError("every seed must be scored on the same images")
    count, differences = len(seeds), np.array([difference for difference, _, _ in found])
    between = float(differences.var(ddof=1)) / count
    common = max(0.0, _shared_covariance([ood for _, ood, _ in found], groups[1])
                 + _shared_covariance([id_ for _, _, id_ in found], groups[0]))  # fmt: skip
    mean, error = float(differences.mean()), math.sqrt(between + common)
    if error == 0:
        return Difference(mean, 0.0, first.p_value, count)
    return Difference(mean, error, _two_sided(mean / error, between, common, count), count)


def _differences(
    id_a: np.ndarray, ood_a: np.ndarray, id_b: np.ndarray, ood_b: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """AUROC_A − AUROC_B and the differences of DeLong's components of OOD and ID images."""
    auc_a, ood_va, id_va = components(id_a, ood_a)
    auc_b, ood_vb, id_vb = components(id_b, ood_b)
    return auc_a - auc_b, ood_va - ood_vb, id_va - id_vb


def _shared_covariance(parts: Sequence[np.ndarray], groups: Groups) -> float:
    """The mean covariance, over pairs of seeds, of the means of components (n,) of one side.

    The variance of a sum holds every covariance of two seeds twice: no pair is formed.
    """
    count, total = len(parts), np.sum(parts, axis=0)
    whole = covariance_of_means(total, total, groups)
    own = math.fsum(covariance_of_means(part, part, groups) for part in parts)
    shared = (whole - own) / (count * (count - 1))
    return math.inf if math.isnan(shared) else shared


def _two_sided(t: float, between: float, common: float, count: int) -> float:
    """Student's p-value with Hillis's degrees of freedom; the normal one where seeds agree."""
    from scipy.special import ndtr, stdtr

    if not math.isfinite(t):
        return 1.0
    if between == 0:
        return 2.0 * float(ndtr(-abs(t)))
    freedom = (between + common) ** 2 * (count - 1) / between**2
    return 2.0 * float(stdtr(freedom, -abs(t)))
