"""What the figures of the report are drawn from: a short ROC polyline and binned scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: A drawn curve lies within this distance of the exact one, in units of the axes.
TOLERANCE = 0.002
BINS = 40
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
    """The points of a polyline (T, 2) that are needed to stay within `tolerance` of it.

    Ramer 1972, Douglas and Peucker 1973: the point farthest from a chord splits it, until no point
    is farther away than the tolerance.
    """
    keep = np.zeros(len(curve), dtype=bool)
    keep[[0, -1]] = True
    open_chords = [(0, len(curve) - 1)]
    while open_chords:
        first, last = open_chords.pop()
        if last - first < 2:
            continue
        distances = _distances(curve[first + 1 : last], curve[first], curve[last])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            open_chords += [(first, middle), (middle, last)]
    return np.asarray(curve[keep])


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(P,) distances of points (P, 2) from the segment between two points."""
    chord = end - start
    length = float(chord @ chord)
    along = np.clip((points - start) @ chord / length, 0.0, 1.0) if length else np.zeros(1)
    return np.asarray(np.linalg.norm(points - start - along[:, None] * chord, axis=1))


@dataclass(frozen=True)
class Histogram:
    """Counts (BINS,) of the ID and OOD images between `low` and `high`, in equal bins."""

    low: float
    high: float
    id_counts: np.ndarray
    ood_counts: np.ndarray


def histogram(id_scores: np.ndarray, ood_scores: np.ndarray, bins: int = BINS) -> Histogram:
    """Both sides in the same bins; scores in the far tails count in the outermost bins.

    Scores that are whole numbers get bins of whole width, so that no bin holds more values than
    the next.
    """
    pooled = np.concatenate([id_scores, ood_scores])
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
