"""Score functions of hierarchical VAEs: pure functions of the statistics, higher = more OOD.

Statistics of N images from a model with L layers, nats:
    nll   (N, L)      NLL_k = −log p(x|z>k), k = 0 … L−1
    kl    (N, L, L)   kl[:, k, l−1] = KL_l of the pass that gave NLL_k; 0 for l ≤ k
    elbo  (N,)        L, or its S-sample importance bound
    reverse_kl (N, L) KL>k of a model that infers on the way down, 0 for k = 0
References: HVK = Havtorn et al. 2021 (arXiv 2102.08248); LLRada = Li et al. 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON

MIN_NLL = 1e-6


def partial_bounds(nll: np.ndarray, kl: np.ndarray) -> np.ndarray:
    """(N, L): L>k = −NLL_k − Σ_(l>k) KL_l (HVK, Eq. 6); L>0 is the ELBO of the k = 0 pass."""
    return np.asarray(-nll - kl.sum(axis=2))


def likelihood_ratios(elbo: np.ndarray, nll: np.ndarray, kl: np.ndarray) -> np.ndarray:
    """(N, L): LLR>k = L − L>k (HVK, Eq. 9); the column k = 0 is 0 by definition."""
    ratios = elbo[:, None] - partial_bounds(nll, kl)
    ratios[:, 0] = 0.0
    return np.asarray(ratios)


def reconstruction_ratios(nll: np.ndarray) -> np.ndarray:
    """(N, L−1): NLL_k / NLL_(k−1) for k = 1 … L−1, the weights of LLRada (Eq. 11).

    NLLs of a discrete likelihood are positive; a density's are clamped at 1e-6.
    """
    positive = np.maximum(nll, MIN_NLL)
    return np.asarray(positive[:, 1:] / positive[:, :-1])


def llr_ada(llr: np.ndarray, nll: np.ndarray) -> np.ndarray:
    """(N,): LLR>1 + Σ_(k≥2) (NLL_k / NLL_(k−1)) (LLR>k − LLR>(k−1)).

    The form of the worked example in the LLRada paper's Appendix M: weight 1 on LLR>1.
    """
    steps = np.diff(llr, axis=1)
    weights = reconstruction_ratios(nll)
    weights[:, :1] = 1.0
    return np.asarray((weights * steps).sum(axis=1))


def llr_ada_eq11(llr: np.ndarray, nll: np.ndarray) -> np.ndarray:
    """(N,): Σ_(k≥1) (NLL_k / NLL_(k−1)) (LLR>k − LLR>(k−1)), Eq. 11 of LLRada to the letter."""
    return np.asarray((reconstruction_ratios(nll) * np.diff(llr, axis=1)).sum(axis=1))


def llr_optk(llr: np.ndarray, nll: np.ndarray) -> np.ndarray:
    """(N,): LLR>k* with k* = argmax_k NLL_k / NLL_(k−1) of the image; ties take the smallest k."""
    best = reconstruction_ratios(nll).argmax(axis=1) + 1
    return np.asarray(np.take_along_axis(llr, best[:, None], axis=1)[:, 0])


def hierarchical_scores(
    elbo: np.ndarray, nll: np.ndarray, kl: np.ndarray, reverse_kl: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Every score by its name in a table, each (N,) float64; KL>k where `reverse_kl` is given."""
    layers = nll.shape[1]
    bounds = partial_bounds(nll, kl)
    llr = likelihood_ratios(elbo, nll, kl)
    out = {"L": -elbo}
    out |= {f"L>{k}": -bounds[:, k] for k in range(1, layers)}
    out |= {f"LLR>{k}": llr[:, k] for k in range(1, layers)}
    if layers > 1:
        out["LLR_ada"] = llr_ada(llr, nll)
        out["LLR_ada_eq11"] = llr_ada_eq11(llr, nll)
        out["LLR_optk"] = llr_optk(llr, nll)
    out |= {f"KL<={k}": kl[:, 0, :k].sum(axis=1) for k in range(1, layers + 1)}
    if reverse_kl is not None:
        out |= {f"KL>{k}": reverse_kl[:, k] for k in range(1, layers)}
    return out


def score_names(layers: int, *, top_down: bool = False) -> list[str]:
    """The names that `hierarchical_scores` returns for L layers, in its order."""
    one, kl = np.ones((1, layers)), np.zeros((1, layers, layers))
    return list(hierarchical_scores(one[:, 0], one, kl, one if top_down else None))


def stacked(statistics: Mapping[str, np.ndarray]) -> np.ndarray:
    """kl (N, L, L) from the columns kl_0 … kl_(L−1) of a measurement."""
    layers = statistics["nll"].shape[1]
    return np.stack([statistics[f"kl_{k}"] for k in range(layers)], axis=1)


def mean_bounds(
    statistics: Mapping[str, np.ndarray], shape: tuple[int, int, int]
) -> dict[str, JSON]:
    """Means over images of `shape` (C, H, W): bits/dim and nats of every L>k, NLL_k, LLR>k, KL."""
    nll, kl = statistics["nll"], stacked(statistics)
    bits = math.prod(shape) * math.log(2.0)
    llr = likelihood_ratios(statistics["elbo"], nll, kl)
    return {
        "bits_per_dim": float(-statistics["elbo"].mean() / bits),
        "bits_per_dim_k": [float(v) for v in -partial_bounds(nll, kl).mean(0) / bits],
        "nll_bits_per_dim_k": [float(v) for v in nll.mean(0) / bits],
        "nll_nats_k": [float(v) for v in nll.mean(0)],
        "llr_nats_k": [float(v) for v in llr.mean(0)],
        "kl_nats": [float(v) for v in kl[:, 0].mean(0)],
        "images": len(nll),
    }
