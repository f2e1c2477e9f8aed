"""Functions of logits and probabilities, float64: (N, K) arrays of N images and K classes."""

from __future__ import annotations

import numpy as np

BINS = 15


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log p(y|x) (N, K) of logits (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """p(y|x) (N, K) of logits (N, K)."""
    return np.asarray(np.exp(log_softmax(logits)))


def doubt(logits: np.ndarray) -> np.ndarray:
    """1 − max_y p(y|x) (N,) of logits (N, K), without rounding near certainty to 0."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.put_along_axis(odds, logits.argmax(axis=1)[:, None], 0.0, axis=1)
    rest = odds.sum(axis=1)
    return np.asarray(rest / (1.0 + rest))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, Eq. 3), in [0, 1].

    Images are put into `bins` intervals of equal width by their largest probability; |accuracy −
    mean probability| is averaged over the bins by their numbers of images.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    # Intervals are open on the left, so that a confidence of 1 lies in the last one.
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(number, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
