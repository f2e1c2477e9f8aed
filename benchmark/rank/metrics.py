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
from oodbench.rank.intervals import auprc_interval, fpr_interval, order_of
from oodbench.rank.significance import auroc_interval, midranks
from oodbench.seeding import derive_seed

#: The true-positive rates of the metrics that are false-positive rates.
RATES = {"fpr80": 0.80, "fpr95": 0.95}
#: Counts held at once while resampling: few enough to stay in a processor's cache.
BLOCK_COUNTS = 1 << 16


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


def average_precision(
    id_scores: np.ndarray, ood_scores: np.ndarray, *, itself: float = 1.0
) -> float:
    """Σ (R_n − R_(n−1)) P_n over the distinct thresholds, from high to low.

    An OOD image counts as `itself` in its own precision.
    """
    curve = _Curve(checked(id_scores, "ID"), checked(ood_scores, "OOD"))
    return float(curve.average_precision(*curve.counts(), itself)[0])


def fpr_at_tpr(id_scores: np.ndarray, ood_scores: np.ndarray, tpr: float) -> float:
    """False-positive rate at the first threshold, from high to low, where TPR ≥ `tpr`."""
    curve = _Curve(checked(id_scores, "ID"), checked(ood_scores, "OOD"))
    return float(curve.fpr_at(tpr, *curve.counts(), curve.id_place.size)[0])


def roc_curve(id_scores: np.ndarray, ood_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T + 1,) false and true positive rates at the T distinct thresholds, from (0, 0) on."""
    sides = np.sort(checked(id_scores, "ID")), np.sort(checked(ood_scores, "OOD"))
    thresholds = np.unique(np.concatenate(sides))[::-1]
    above = [side.size - np.searchsorted(side, thresholds, side="left") for side in sides]
    fpr, tpr = (
        np.concatenate([[0.0], count / side.size]) for count, side in zip(above, sides, strict=True)
    )
    return fpr, tpr


class _Curve:
    """The distinct OOD scores from high to low, and for every image its place among them.

    Recall changes at an OOD score only, so that these T thresholds say all of AUPRC and FPR.  An ID
    image stands at the first of them that calls it OOD, at place T where none does.
    """

    def __init__(self, id_scores: np.ndarray, ood_scores: np.ndarray) -> None:
        distinct, inverse = np.unique(ood_scores, return_inverse=True)
        self.size = distinct.size
        self.ood_place = self.size - 1 - inverse
        self.id_place = self.size - np.searchsorted(distinct, id_scores, side="right")

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(1, T) false and true positives at every threshold."""
        return self._counted(self.id_place[None]), self._counted(self.ood_place[None])

    def resample(self, generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, T) counts of stratified bootstrap samples."""
        drawn = (
            place[generator.integers(place.size, size=(rows, place.size), dtype=np.int32)]
            for place in (self.id_place, self.ood_place)
        )
        false, true = map(self._counted, drawn)
        return false, true

    def _counted(self, places: np.ndarray) -> np.ndarray:
        """(rows, T) images at a threshold or above it, from their places (rows, N)."""
        rows, wide = len(places), self.size + 1
        flat = (places + wide * np.arange(rows)[:, None]).ravel()
        counts = np.bincount(flat, minlength=rows * wide).reshape(rows, wide)[:, :-1]
        return np.cumsum(counts, axis=1)

    @staticmethod
    def average_precision(false: np.ndarray, true: np.ndarray, itself: float = 1.0) -> np.ndarray:
        """(rows,) AUPRC; every OOD image counts as `itself` in its own precision."""
        gained = np.diff(true, axis=1, prepend=0)
        found = true - (1.0 - itself) if itself < 1 else true
        precision = found / np.maximum(found + false, 1e-9)
        return np.asarray((gained * precision).sum(1) / true[:, -1])

    @staticmethod
    def fpr_at(tpr: float, false: np.ndarray, true: np.ndarray, n_id: int) -> np.ndarray:
        """(rows,) false-positive rates of `n_id` ID images."""
        # The smallest count that reaches the rate; 1e-9 absorbs 0.8 · n being not exact in binary.
        wanted = math.ceil(tpr * int(true[0, -1]) - 1e-9)
        first = (true >= wanted).argmax(axis=1)
        return np.asarray(np.take_along_axis(false, first[:, None], axis=1)[:, 0] / n_id)


def evaluate(
    id_scores: np.ndarray,
    ood_scores: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """All metrics with intervals (`oodbench.rank.intervals`); each holds its value.

    AUROC: DeLong's variance.  AUPRC: the standard deviation of a stratified bootstrap, on the logit
    scale.  FPR80, FPR95: percentiles of that bootstrap and Clopper–Pearson.
    The intervals speak of the test images alone, not of training seeds.  The order of the images
    matters to nothing, the resampling included: scores are sorted first.
    """
    a, b = np.sort(checked(id_scores, "ID")), np.sort(checked(ood_scores, "OOD"))
    curve, order = _Curve(a, b), order_of(a, b)
    exact = curve.counts()
    draws = _drawn(curve, a.size, resamples, np.random.default_rng(derive_seed("bootstrap", seed)))
    auprc = float(curve.average_precision(*exact)[0])
    centred = float(curve.average_precision(*exact, itself=0.5)[0])
    ends = auprc_interval(auprc, centred, draws["auprc"], order, a.size, b.size, level)
    intervals = {"auprc": Interval(auprc, *ends, "bootstrap, logit")}
    for name, tpr in RATES.items():
        value = float(curve.fpr_at(tpr, *exact, a.size)[0])
        ends = fpr_interval(value, draws[name], a.size, b.size, level)
        intervals[name] = Interval(value, *ends, "bootstrap and Clopper–Pearson")
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


def _drawn(
    curve: _Curve, n_id: int, resamples: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """(resamples,) values of AUPRC, FPR80 and FPR95 of bootstrap samples."""
    draws: dict[str, list[np.ndarray]] = {"auprc": [], **{name: [] for name in RATES}}
    rows = max(1, BLOCK_COUNTS // max(curve.id_place.size, curve.ood_place.size))
    for start in range(0, resamples, rows):
        sample = curve.resample(generator, min(rows, resamples - start))
        draws["auprc"].append(curve.average_precision(*sample))
        for name, tpr in RATES.items():
            draws[name].append(curve.fpr_at(tpr, *sample, n_id))
    return {name: np.concatenate(drawn) for name, drawn in draws.items()}


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
