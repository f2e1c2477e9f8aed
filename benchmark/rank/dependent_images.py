"""Intervals where images depend on each other: groups are drawn, not images.

Frames of one video say little more than one of them.  A stratified cluster bootstrap draws as many
groups as there are, with replacement, each with all its images (Field, Welsh, JRSS B 69, 2007).
AUROC takes DeLong's components added up within groups (Obuchowski, Biometrics 53, 1997).  From
these the intervals are made as those of images are (`oodbench.rank.intervals`), groups counted
where images are: near the ceiling too they have a width.  They need some tens of groups a side.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from oodbench.rank.intervals import auprc_interval, auroc_interval, fpr_interval, order_of
from oodbench.rank.metrics import RATES, Interval, Metrics, average_precision
from oodbench.rank.significance import Groups, components, covariance_of_means
from oodbench.seeding import derive_seed

METHOD = "over groups"
#: Part of the key of a run with groups: raise it where these intervals change.
REVISION = 2


def over_groups(
    metrics: Metrics,
    id_scores: np.ndarray,
    ood_scores: np.ndarray,
    groups: tuple[Groups, Groups],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """The same values with intervals over the groups (n,) of both sides; None: every image alone.

    Scores are (n,) as `oodbench.rank.metrics.evaluate` had them.
    """
    sides, level = (id_scores, ood_scores), metrics.level
    draws = drawn(*sides, groups, resamples=resamples, seed=seed)
    n_id, n_ood = (
        s.size if g is None else np.unique(g).size for s, g in zip(sides, groups, strict=True)
    )
    order, smaller = order_of(*sides), min(n_id, n_ood)
    value, v_ood, v_id = components(*sides)
    variance = math.fsum(
        covariance_of_means(v, v, g) for v, g in ((v_id, groups[0]), (v_ood, groups[1]))
    )
    auprc = auprc_interval(
        metrics.auprc.value, average_precision(*sides, itself=0.5), draws["auprc"], order,
        id_scores.size, ood_scores.size, level, observed=smaller,
    )  # fmt: skip
    rates = {
        name: fpr_interval(getattr(metrics, name).value, draws[name], n_id, n_ood, level)
        for name in RATES
    }

    def interval(name: str, ends: tuple[float, float]) -> Interval:
        return Interval(getattr(metrics, name).value, *ends, METHOD)

    return replace(
        metrics,
        auroc=interval("auroc", auroc_interval(value, variance, order, smaller, level)),
        auprc=interval("auprc", auprc),
        fpr80=interval("fpr80", rates["fpr80"]),
        fpr95=interval("fpr95", rates["fpr95"]),
    )


def drawn(
    id_scores: np.ndarray,
    ood_scores: np.ndarray,
    groups: tuple[Groups, Groups],
    *,
    resamples: int,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """(resamples,) values of every metric by drawing groups; `seed` pairs detectors' draws."""
    thresholds = np.unique(np.concatenate([id_scores, ood_scores]))[::-1]
    places = [thresholds.size - 1 - np.searchsorted(thresholds[::-1], s)
              for s in (id_scores, ood_scores)]  # fmt: skip
    members = [
        np.arange(len(s)) if g is None else np.unique(g, return_inverse=True)[1]
        for s, g in zip((id_scores, ood_scores), groups, strict=True)
    ]
    generator = np.random.default_rng(derive_seed("bootstrap over groups", seed))
    out: dict[str, list[float]] = {"auroc": [], "auprc": [], **{name: [] for name in RATES}}
    for _ in range(resamples):
        counts = []
        for place, member in zip(places, members, strict=True):
            size = int(member.max()) + 1
            times = np.bincount(generator.integers(size, size=size), minlength=size)[member]
            counts.append(np.bincount(place, weights=times, minlength=thresholds.size))
        for name, value in _metrics(*counts).items():
            out[name].append(value)
    return {name: np.array(values) for name, values in out.items()}


def _metrics(false: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """The metrics of (T,) ID and OOD counts at the thresholds, from high to low."""
    above_false, above_true = np.cumsum(false), np.cumsum(true)
    n_id, n_ood = above_false[-1], above_true[-1]
    # An OOD image at a threshold beats the ID images below it, and half of those at it.
    beaten = (true * (n_id - above_false + false / 2)).sum()
    precision = above_true / np.maximum(above_true + above_false, 1)
    found = {
        "auroc": float(beaten / (n_id * n_ood)),
        "auprc": float((true * precision).sum() / n_ood),
    }
    for name, tpr in RATES.items():
        first = int(np.argmax(above_true >= math.ceil(tpr * n_ood - 1e-9)))
        found[name] = float(above_false[first] / n_id)
    return found
