"""AUROC, AUPRC, FPR80 and FPR95 with intervals; OOD is the positive class, higher = more OOD.

Definitions as in the HVK and LLRada papers' code: AUROC counts ties half; AUPRC is average
precision, Σ (R_n − R_(n−1)) P_n over distinct thresholds; FPR80 is the false-positive rate (ID
called OOD) at the first threshold, from high to low, with a true-positive rate of at least 0.80.
All values are fractions; tables print percent.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.declare.layouts import METRICS
from oodbench.errors import DataError
from oodbench.rank.significance import auroc_interval, midranks
from oodbench.seeding import derive_seed

#: Counts held at once while resampling, so that memory does not grow with the number of images.
BLOCK_COUNTS = 1 << 21


@dataclass(frozen=True)
class Interval:
    """A value with a confidence interval, and the method that gave the interval."""

    value: float
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Metrics:
    """What one detector does on one pair with one seed."""

    auroc: Interval
    auprc: Interval
    fpr80: Interval
    fpr95: Interval
    level: float
    n_id: int
    n_ood: int
    prevalence: float
    distinct_id: int
    distinct_ood: int

    def to_json(self) -> dict[str, JSON]:
        """As a record holds it."""
        return cast("dict[str, JSON]", asdict(self))

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Metrics:
        """Inverse of `to_json`."""
        parts = dict(value)
        intervals = {
            name: Interval(**cast("dict[str, float]", parts.pop(name)))  # type: ignore[arg-type]
            for name in METRICS
        }
        return cls(**intervals, **cast("dict[str, float]", parts))  # type: ignore[arg-type]


def checked(scores: np.ndarray, side: str) -> np.ndarray:
    """Scores as (N,) float64; DataError names what is wrong (empty, shape, first non-finite)."""
    out = np.asarray(scores, dtype=np.float64)
    if out.ndim != 1 or out.size == 0:
        raise DataError(f"{side} scores must be a non-empty vector, not of shape {out.shape}")
    bad = np.flatnonzero(~np.isfinite(out))
    if bad.size:
        raise DataError(f"{side} score of image {bad[0]} is {out[bad[0]]} ({bad.size} non-finite)")
    return out


def auroc(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    """P(OOD score > ID score) + ½ P(equal)."""
    a, b = checked(id_scores, "ID"), checked(ood_scores, "OOD")
    ranks = midranks(np.concatenate([b, a]))[: b.size]
    return float((ranks.sum() - b.size * (b.size + 1) / 2) / (a.size * b.size))


def average_precision(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    """Σ (R_n − R_(n−1)) P_n over the distinct thresholds, from high to low."""
    curve = _Curve(checked(id_scores, "ID"), checked(ood_scores, "OOD"))
    return float(curve.average_precision(*curve.counts())[0])


def fpr_at_tpr(id_scores: np.ndarray, ood_scores: np.ndarray, tpr: float) -> float:
    """False-positive rate at the first threshold, from high to low, where TPR ≥ `tpr`."""
    curve = _Curve(checked(id_scores, "ID"), checked(ood_scores, "OOD"))
    return float(curve.fpr_at(tpr, *curve.counts())[0])


def roc_curve(id_scores: np.ndarray, ood_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T + 1,) false and true positive rates at the T distinct thresholds, from (0, 0) on."""
    false, true = _Curve(checked(id_scores, "ID"), checked(ood_scores, "OOD")).counts()
    fpr, tpr = (np.concatenate([[0.0], side[0] / side[0, -1]]) for side in (false, true))
    return fpr, tpr


class _Curve:
    """The distinct scores from high to low, and for every image its place among them."""

    def __init__(self, id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
        distinct, inverse = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)
        self.size = distinct.size
        place = self.size - 1 - inverse
        self.id_place, self.ood_place = place[: id_scores.size], place[id_scores.size :]

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(1, T) false and true positives at every threshold."""
        false = np.bincount(self.id_place, minlength=self.size)
        true = np.bincount(self.ood_place, minlength=self.size)
        return np.cumsum(false)[None], np.cumsum(true)[None]

    def resample(self, generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, T) counts of stratified bootstrap samples."""
        false, true = (np.empty((rows, self.size), dtype=np.int32) for _ in range(2))
        for row in range(rows):
            for place, counts in ((self.id_place, false), (self.ood_place, true)):
                drawn = place[generator.integers(place.size, size=place.size)]
                np.cumsum(np.bincount(drawn, minlength=self.size), out=counts[row])
        return false, true

    @staticmethod
    def average_precision(false: np.ndarray, true: np.ndarray) -> np.ndarray:
        gained = np.diff(true, axis=1, prepend=0)
        total = np.maximum(true + false, 1)
        return np.asarray((gained * (true / total)).sum(1) / true[:, -1])

    @staticmethod
    def fpr_at(tpr: float, false: np.ndarray, true: np.ndarray) -> np.ndarray:
        # The smallest count that reaches the rate; 1e-9 absorbs 0.8 · n being not exact in binary.
        wanted = math.ceil(tpr * int(true[0, -1]) - 1e-9)
        first = (true >= wanted).argmax(axis=1)
        return np.asarray(np.take_along_axis(false, first[:, None], axis=1)[:, 0] / false[:, -1])


def evaluate(
    id_scores: np.ndarray,
    ood_scores: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """All metrics with intervals: DeLong for AUROC, stratified percentile bootstrap for the rest.

    Ties among repeated images make a resampled AUPRC a little higher; an interval that would miss
    the value for that is widened to hold it.
    The intervals speak of the test images alone, not of training seeds.  The order of the images
    matters to nothing, the resampling included: scores are sorted first.
    """
    a, b = np.sort(checked(id_scores, "ID")), np.sort(checked(ood_scores, "OOD"))
    curve = _Curve(a, b)
    exact = curve.counts()
    generator = np.random.default_rng(derive_seed("bootstrap", seed))
    draws: dict[str, list[np.ndarray]] = {"auprc": [], "fpr80": [], "fpr95": []}
    rows = max(1, BLOCK_COUNTS // curve.size)
    for start in range(0, resamples, rows):
        sample = curve.resample(generator, min(rows, resamples - start))
        draws["auprc"].append(curve.average_precision(*sample))
        draws["fpr80"].append(curve.fpr_at(0.80, *sample))
        draws["fpr95"].append(curve.fpr_at(0.95, *sample))
    values = {
        "auprc": float(curve.average_precision(*exact)[0]),
        "fpr80": float(curve.fpr_at(0.80, *exact)[0]),
        "fpr95": float(curve.fpr_at(0.95, *exact)[0]),
    }
    tails = [(1 - level) / 2, (1 + level) / 2]
    intervals = {}
    for name, drawn in draws.items():
        value = values[name]
        low, high = (float(q) for q in np.quantile(np.concatenate(drawn), tails))
        intervals[name] = Interval(value, min(low, value), max(high, value), "bootstrap")
    value, low, high = auroc_interval(a, b, level)
    return Metrics(
        auroc=Interval(value, low, high, "DeLong"),
        **intervals,
        level=level,
        n_id=a.size,
        n_ood=b.size,
        prevalence=b.size / (a.size + b.size),
        distinct_id=int(np.unique(a).size),
        distinct_ood=int(np.unique(b).size),
    )


def group_members(count: int, size: int) -> np.ndarray:
    """(G, size) indices of the images of each group: a seeded partition, the rest left out.

    DataError where there are fewer than `size` images.
    """
    if count < size:
        raise DataError(f"groups of {size} need at least {size} images, not {count}")
    order = np.random.default_rng(derive_seed("groups", count, size)).permutation(count)
    return order[: count // size * size].reshape(-1, size)


def equal_size(n_id: int, n_ood: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of min(n_id, n_ood) images of each side (the papers' equal-size rule), sorted.

    The larger side is cut to a seeded subset, the same for every detector.
    """
    size = min(n_id, n_ood)

    def subset(count: int, side: str) -> np.ndarray:
        if count == size:
            return np.arange(size)
        generator = np.random.default_rng(derive_seed("equal size", seed, side, count, size))
        return np.sort(generator.permutation(count)[:size])

    return subset(n_id, "ID"), subset(n_ood, "OOD")


@dataclass(frozen=True)
class SeedSummary:
    """Mean over seeds and sample standard deviation (None for one seed)."""

    mean: float
    sd: float | None
    seeds: int


def summarise_seeds(runs: Sequence[Metrics]) -> dict[str, SeedSummary]:
    """Mean and sample standard deviation (n − 1) of every metric over seeds."""
    out = {}
    for name in METRICS:
        values = [cast(Interval, getattr(run, name)).value for run in runs]
        sd = statistics.stdev(values) if len(values) > 1 else None
        out[name] = SeedSummary(statistics.fmean(values), sd, len(values))
    return out
