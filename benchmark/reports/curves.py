"""What the figures of the report are drawn from: a short ROC polyline and binned scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: A drawn curve lies within this distance of the exact one, in units of the axes.
TOLERANCE = 0.004
#: The most and the least bins of a histogram; between them Rice's rule, 2 n^(1/3) of a side.
BINS = (10, 40)
#: Scores beyond these quantiles of all images are counted in the outermost bins.
TAILS = (0.002, 0.998)


def roc_curve(id_scores: np.ndarray, ood_scores: np.ndarray) -> np.ndarray:
    """(T + 1, 2) false- and true-positive rates at every distinct threshold, from (0, 0) to (1, 1).

    Linear interpolation between its points counts ties half, so its area is the AUROC.
    """
    thresholds = np.unique(np.concatenate([id_scores, ood_scores]))[::-1]
    rates = [
        (side.size - np.searchsorted(np.sort(side), thresholds, side="left")) / side.size
        for side in (id_scores, ood_scores)
    ]
    return np.concatenate([[[0.0, 0.0]], np.stack(rates, axis=1)])


def area(curve: np.ndarray) -> float:
    """The area under a polyline (T, 2) by the trapezoidal rule."""
    x, y = curve.T
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def simplified(curve: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """The points of a polyline (T, 2), T ≥ 2, that are needed to stay within `tolerance` of it.

    Ramer 1972, Douglas and Peucker 1973: the point farthest from a chord splits it, until no point
    is farther away than the tolerance; here all chords at once.
    """
    kept = np.array([0, len(curve) - 1])
    while True:
        lengths = np.diff(kept)
        distances = _distances(curve[:-1], np.repeat(curve[kept[:-1]], lengths, axis=0),
                               np.repeat(curve[kept[1:]], lengths, axis=0))  # fmt: skip
        farthest = np.maximum.reduceat(distances, kept[:-1])
        split = (distances == np.repeat(farthest, lengths)) & (distances > tolerance)
        if not split.any():
            return np.asarray(curve[kept])
        chords = np.repeat(np.arange(len(lengths)), lengths)
        points = np.flatnonzero(split)
        first = np.unique(chords[points], return_index=True)[1]
        kept = np.union1d(kept, points[first])


def _distances(points: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(P,) distances of points (P, 2) from the segments between two points each, (P, 2)."""
    x, y = (points - starts).T
    along_x, along_y = (ends - starts).T
    squared = along_x**2 + along_y**2
    share = (x * along_x + y * along_y) / np.where(squared > 0, squared, 1.0)
    share = np.clip(share, 0.0, 1.0)
    return np.asarray(np.hypot(x - share * along_x, y - share * along_y))


@dataclass(frozen=True)
class Histogram:
    """Counts (K,) of the ID and OOD images between `low` and `high`, in K equal bins."""

    low: float
    high: float
    id_counts: np.ndarray
    ood_counts: np.ndarray


def histogram(id_scores: np.ndarray, ood_scores: np.ndarray) -> Histogram:
    """Both sides in the same bins; scores in the far tails count in the outermost bins.

    Scores that are whole numbers get bins of whole width, so that no bin holds more values than
    the next.
    """
    pooled = np.concatenate([id_scores, ood_scores])
    bins = int(np.clip(2 * min(id_scores.size, ood_scores.size) ** (1 / 3), *BINS))
    low, high = (float(v) for v in np.quantile(pooled, TAILS))
    if low == high:
        low, high = float(pooled.min()), float(pooled.max())
    if low == high:
        half = 0.5 * max(1.0, abs(low))
        low, high = low - half, high + half
    if (pooled == np.round(pooled)).all() and high - low >= 1:
        width = int(np.ceil((high - low + 1) / bins))
        low = float(np.floor(low)) - 0.5
        bins = int(np.ceil((high + 0.5 - low) / width))
        high = low + bins * width
    edges = np.linspace(low, high, bins + 1)
    counts = [np.histogram(np.clip(s, low, high), edges)[0] for s in (id_scores, ood_scores)]
    return Histogram(low, high, counts[0], counts[1])
