"""Scores of hierarchical VAEs against the papers' worked examples and against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oodbench.baselines.scores import (
    hierarchical_scores,
    likelihood_ratios,
    llr_ada,
    llr_ada_eq11,
    llr_optk,
    partial_bounds,
    reconstruction_ratios,
    score_names,
)

# LLRada paper, Tables 13 and 14 and Appendix M: FashionMNIST (ID) and MNIST (OOD), thousands.
ID = ([1.59, 3.50, 4.87, 7.81, 7.81], [0, 1.65, 2.97, 5.90, 5.90])
OOD = ([1.15, 2.05, 4.32, 6.89, 6.89], [0, 0.74, 2.90, 5.46, 5.46])


def row(values: list[float]) -> np.ndarray:
    return np.asarray([values], dtype=np.float64)


def upper(kl: np.ndarray) -> np.ndarray:
    """(N, L, L): the same KL of layer l in every pass k < l, none for l ≤ k."""
    layers = kl.shape[1]
    keep = np.arange(1, layers + 1)[None, :] > np.arange(layers)[:, None]
    return np.where(keep[None], kl[:, None, :], 0.0)


def test_ratios_from_the_published_parts() -> None:
    nll = row([1590, 3500, 4870, 7810, 7810])
    kl = upper(row([259, 49.9, 10.2, 5.75e-4, 5.0e-4]))
    elbo = partial_bounds(nll, kl)[:, 0]
    llr = likelihood_ratios(elbo, nll, kl)
    np.testing.assert_allclose(llr[0, 1:], [1651.0, 2971.1, 5900.9, 5900.9], atol=0.05)


@pytest.mark.parametrize(
    ("example", "ada", "literal", "k", "at_k"),
    [(ID, 8.18552, 10.168, 1, 1.65), (OOD, 9.37477, 9.954, 2, 2.90)],
)
def test_worked_example(
    example: tuple[list[float], list[float]], ada: float, literal: float, k: int, at_k: float
) -> None:
    nll, llr = row(example[0]), row(example[1])
    assert llr_ada(llr, nll)[0] == pytest.approx(ada, abs=5e-6)
    assert llr_ada_eq11(llr, nll)[0] == pytest.approx(literal, abs=5e-4)
    assert reconstruction_ratios(nll).argmax() + 1 == k
    assert llr_optk(llr, nll)[0] == at_k


NUMBERS = st.floats(0.5, 5000)


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(
    st.lists(NUMBERS, min_size=n, max_size=n),
    st.lists(NUMBERS, min_size=n, max_size=n),
    st.floats(-100, 100))))  # fmt: skip
def test_against_loops(parts: tuple[list[float], list[float], float]) -> None:
    nll, kl, gain = parts
    layers = len(nll)
    elbo = -nll[0] - sum(kl) + gain
    got = hierarchical_scores(np.array([elbo]), row(nll), upper(row(kl)))
    bound = [-nll[k] - sum(kl[k:]) for k in range(layers)]
    llr = [0.0] + [elbo - bound[k] for k in range(1, layers)]
    assert got["L"][0] == pytest.approx(-elbo)
    total, literal = llr[1], nll[1] / nll[0] * llr[1]
    for k in range(1, layers):
        assert got[f"L>{k}"][0] == pytest.approx(-bound[k])
        assert got[f"LLR>{k}"][0] == pytest.approx(llr[k], abs=1e-9)
        # the decomposition: NLL_k − NLL_0 − Σ_(l≤k) KL_l, and what importance samples add to L
        assert llr[k] == pytest.approx(nll[k] - nll[0] - sum(kl[:k]) + gain, abs=1e-6)
        if k > 1:
            total += nll[k] / nll[k - 1] * (llr[k] - llr[k - 1])
            literal += nll[k] / nll[k - 1] * (llr[k] - llr[k - 1])
    assert got["LLR_ada"][0] == pytest.approx(total, rel=1e-9, abs=1e-6)
    assert got["LLR_ada_eq11"][0] == pytest.approx(literal, rel=1e-9, abs=1e-6)
    assert got[f"KL<={layers}"][0] == pytest.approx(sum(kl))


def test_invariants() -> None:
    generator = np.random.default_rng(0)
    nll, kl = generator.uniform(1, 9, (50, 4)), upper(generator.uniform(0, 3, (50, 4)))
    elbo = partial_bounds(nll, kl)[:, 0]
    assert np.all(likelihood_ratios(elbo, nll, kl)[:, 0] == 0)
    scores = hierarchical_scores(elbo, nll, kl)
    assert list(scores) == score_names(4)
    order = generator.permutation(50)
    for name, values in hierarchical_scores(elbo[order], nll[order], kl[order]).items():
        np.testing.assert_array_equal(values, scores[name][order])


def test_ties_of_optk_take_the_smallest_k() -> None:
    assert llr_optk(row([0, 3, 7]), row([1, 2, 4]))[0] == 3


def test_one_layer_has_no_ratio() -> None:
    assert score_names(1) == ["L", "KL<=1"]
    assert score_names(1, top_down=True) == ["L", "KL<=1"]


def test_reverse_kl_is_a_score_where_it_is_measured() -> None:
    generator = np.random.default_rng(0)
    nll, kl = generator.uniform(1, 9, (50, 3)), upper(generator.uniform(0, 3, (50, 3)))
    reverse = generator.uniform(0, 5, (50, 3))
    elbo = partial_bounds(nll, kl)[:, 0]
    without, scores = (hierarchical_scores(elbo, nll, kl, r) for r in (None, reverse))
    assert list(scores) == score_names(3, top_down=True) == [*without, "KL>1", "KL>2"]
    np.testing.assert_array_equal(scores["KL>2"], reverse[:, 2])
