"""Intervals of AUROC, AUPRC and FPR that hold where a bootstrap has nothing to vary.

Near the ceiling hardly an image is misplaced, and a resampled metric repeats the value: an
interval of width 0, which holds its nominal share of the time only by name.  What is exact there
rests on m disjoint ID–OOD pairs, m the smaller side: an event of chance q per image is seen in all
of m images with probability q^m, so that q < ((1 − level)/2)^(1/m) can be excluded (Clopper and
Pearson 1934).  With w = n_ID/n_OOD, the odds of an ID image among the test images:

    separated   every OOD score above every ID score    b ≤ AUROC
                                                        1 − x ln(1 + 1/x) ≤ AUPRC, x = w(1 − b)
    reversed    every OOD score below every ID score    AUROC ≤ 1 − b
                                                        AUPRC ≤ its value + 1 − b
    constant    all scores equal                        b/2 ≤ AUROC ≤ 1 − b/2
                                                        b/(b + w) ≤ AUPRC
                                                        AUPRC ≤ (1 + w(1 − b))/(1 + w)

The bounds of AUPRC are those of the worst distribution that leaves such an order as likely: a
share 1 − b of ID images above all OOD images, a share 1 − b of OOD images above all ID images, a
share 1 − b of OOD images beside the common score.  AUPRC is never below `auprc_floor`.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

Order: TypeAlias = Literal["separated", "reversed", "constant", "mixed"]


def order_of(id_scores: np.ndarray, ood_scores: np.ndarray) -> Order:
    """How the two sides lie to each other; "mixed" where none of the exact cases applies."""
    if ood_scores.min() > id_scores.max():
        return "separated"
    if ood_scores.max() < id_scores.min():
        return "reversed"
    if ood_scores.min() == ood_scores.max() == id_scores.min() == id_scores.max():
        return "constant"
    return "mixed"


def excluded_share(count: int, level: float) -> float:
    """b = ((1 − level)/2)^(1/count): below it, `count` successes of `count` are too unlikely."""
    return float(((1.0 - level) / 2.0) ** (1.0 / count))


def auroc_interval(
    value: float, variance: float, order: Order, smaller: int, level: float = 0.95
) -> tuple[float, float]:
    """(low, high) from DeLong's `variance` on the logit scale, exact in the orders above.

    Nothing is known, (0, 1), where the variance is undefined (a side of one image).
    """
    share = excluded_share(smaller, level)
    if order == "separated":
        return share, 1.0
    if order == "reversed":
        return 0.0, 1.0 - share
    if order == "constant":
        return share / 2, 1.0 - share / 2
    if not variance > 0:
        return 0.0, 1.0
    reach = NormalDist().inv_cdf((1.0 + level) / 2.0)
    return _on_logits(value, value, math.sqrt(variance), reach)


def auprc_floor(odds: float) -> float:
    """AUPRC of a detector that ranks every OOD image last, of many images: 1 − w ln(1 + 1/w)."""
    return 1.0 - odds * math.log1p(1.0 / odds)


def auprc_interval(
    value: float, centred: float, draws: np.ndarray, order: Order, n_id: int, n_ood: int,
    level: float = 0.95, observed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """(low, high) from the standard deviation of bootstrap `draws` (B,) on the logit scale.

    Average precision lies above that of many images, for every OOD image counts itself;
    `centred` counts it half.  The lower end is taken from there, the upper from `value`.
    `observed`: how many of the smaller side say something of their own, where not every image does.
    """
    odds, smaller = n_id / n_ood, observed or min(n_id, n_ood)
    share = excluded_share(smaller, level)
    if order == "separated":
        missed = odds * (1.0 - share)
        return 1.0 - missed * math.log1p(1.0 / missed), 1.0
    if order == "reversed":
        return auprc_floor(odds), min(1.0, value + 1.0 - share)
    if order == "constant":
        return share / (share + odds), (1.0 + odds * (1.0 - share)) / (1.0 + odds)
    error = float(draws.std(ddof=1)) if draws.size > 1 else 0.0
    if error == 0 or smaller == 1:
        return auprc_floor(odds), 1.0
    return _on_logits(centred, value, error, widened(smaller, level))


def fpr_interval(
    value: float, draws: np.ndarray, n_id: int, n_ood: int, level: float = 0.95
) -> tuple[float, float]:
    """(low, high): what holds both the percentiles of bootstrap `draws` and Clopper–Pearson.

    The bootstrap knows that the threshold varies with the OOD images, the exact binomial interval
    of the `n_id` ID images how little an FPR of 0 says.  With one OOD image nothing is known of a
    threshold: (0, 1).
    """
    if n_ood == 1:
        return 0.0, 1.0
    outside = NormalDist().cdf(-widened(min(n_id, n_ood), level))
    low, high = np.quantile(draws, [outside, 1.0 - outside])
    exact = clopper_pearson(round(value * n_id), n_id, level)
    return min(float(low), value, exact[0]), max(float(high), value, exact[1])


def widened(count: int, level: float) -> float:
    """Standard deviations of a bootstrap of `count` images that an interval reaches to each side.

    Student's quantile for the normal one, and √(n/(n − 1)) for what a resampled variance lacks
    (Hesterberg 2015, "expanded percentile").  Infinite for one image.
    """
    from scipy.special import stdtrit

    if count == 1:
        return math.inf
    return math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1.0 + level) / 2.0))


def clopper_pearson(successes: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a probability of which `successes` in `count` trials are known."""
    from scipy.special import betaincinv

    tail, failures = (1.0 - level) / 2.0, count - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1.0 - tail)) if failures else 1.0
    return low, high


def _on_logits(for_low: float, for_high: float, error: float, reach: float) -> tuple[float, float]:
    """for_low − reach·error and for_high + reach·error, each step taken on the logit scale."""

    def moved(value: float, steps: float) -> float:
        logit = math.log(value / (1.0 - value)) + steps * error / (value * (1.0 - value))
        return 1.0 / (1.0 + math.exp(-logit)) if logit > -700 else 0.0

    return moved(for_low, -reach), moved(for_high, reach)
