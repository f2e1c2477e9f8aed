"""Relations that every metric must keep, whatever the scores: checked on scores drawn at random."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodbench.leaderboards.rows import Row
from oodbench.rank.metrics import auroc, average_precision, evaluate, fpr_at_tpr
from oodbench.rank.significance import auroc_interval, delong
from oodbench.tables.after_run import score_table

#: Few distinct values, so that ties are the rule.
SCORES = st.lists(st.integers(-8, 8), min_size=2, max_size=25).map(lambda v: np.array(v, float))
MONOTONE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shift": lambda s: s + 1e3,
    "scale": lambda s: s * 1e-6,
    "exp": np.exp,
    "cube": lambda s: s**3,
    "arctan": np.arctan,
    "sign-preserving log": lambda s: np.sign(s) * np.log1p(np.abs(s)),
}


@pytest.mark.parametrize("name", MONOTONE)
@given(SCORES, SCORES)
@settings(max_examples=30, deadline=None)
def test_an_increasing_transform_changes_no_metric(name: str, a: np.ndarray, b: np.ndarray) -> None:
    before, after = evaluate(a, b, resamples=7), evaluate(*map(MONOTONE[name], (a, b)), resamples=7)
    assert before == after


@given(SCORES, SCORES)
@settings(deadline=None)
def test_swapping_the_sides_mirrors_auroc(a: np.ndarray, b: np.ndarray) -> None:
    assert auroc(a, b) + auroc(b, a) == pytest.approx(1, abs=1e-15)
    assert delong(a, b)[1] == pytest.approx(delong(b, a)[1])
    _, low, high = auroc_interval(a, b)
    _, mirrored_low, mirrored_high = auroc_interval(b, a)
    assert (low, high) == pytest.approx((1 - mirrored_high, 1 - mirrored_low))
    assert auroc(-b, -a) == auroc(a, b)  # both at once: nothing


@given(SCORES, SCORES, st.integers(2, 4))
@settings(deadline=None)
def test_repeating_the_ood_set_leaves_auroc_and_fpr(a: np.ndarray, b: np.ndarray, k: int) -> None:
    assert auroc(a, np.tile(b, k)) == pytest.approx(auroc(a, b), abs=1e-15)
    assert auroc(np.tile(a, k), b) == pytest.approx(auroc(a, b), abs=1e-15)
    for rate in (0.8, 0.95):
        assert fpr_at_tpr(a, np.tile(b, k), rate) <= fpr_at_tpr(a, b, rate) + 1e-15
        assert fpr_at_tpr(np.tile(a, k), b, rate) == pytest.approx(fpr_at_tpr(a, b, rate))
    both = average_precision(np.tile(a, k), np.tile(b, k))
    assert both == pytest.approx(average_precision(a, b))


@given(SCORES, SCORES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_images_changes_nothing(
    a: np.ndarray, b: np.ndarray, chance: object
) -> None:
    generator = np.random.default_rng(chance.getrandbits(32))  # type: ignore[attr-defined]
    shuffled = evaluate(generator.permutation(a), generator.permutation(b), resamples=20)
    assert shuffled == evaluate(a, b, resamples=20)


@given(SCORES, SCORES, st.integers(0, 24))
@settings(deadline=None)
def test_raising_an_ood_score_lowers_no_auroc(a: np.ndarray, b: np.ndarray, place: int) -> None:
    raised = b.copy()
    raised[place % b.size] += 3
    assert auroc(a, raised) >= auroc(a, b)
    assert auroc(a, b) == pytest.approx(np.mean((b[:, None] > a) + 0.5 * (b[:, None] == a)))


@pytest.mark.parametrize("value", [0.0, -0.0, 1e300, -7.25, np.pi])
@pytest.mark.parametrize(("n_id", "n_ood"), [(2, 2), (5, 90), (1000, 999)])
def test_a_constant_score_is_exactly_fifty(value: float, n_id: int, n_ood: int) -> None:
    result = evaluate(np.full(n_id, value), np.full(n_ood, value), resamples=10)
    assert result.auroc.value == 0.5
    assert result.auprc.value == result.prevalence
    assert (result.fpr80.value, result.fpr95.value) == (1.0, 1.0)
    assert result.auroc.low < 0.5 < result.auroc.high
    assert result.distinct_id == result.distinct_ood == 1


@pytest.mark.parametrize(
    ("distinct", "mark"), [(1000, ""), (500, ""), (499, "*"), (10, "*"), (9, "!"), (2, "!")]
)
def test_ties_and_collapsed_scores_are_flagged_in_the_table(distinct: int, mark: str) -> None:
    """Of 1,000 scores: fewer than half distinct, fewer than 1 % distinct."""
    from rich.console import Console

    row = Row("p", "Detector", "S", "", "unsupervised", (0,), 500, {}, distinct, ())
    assert row.mark == mark
    cell = evaluate(np.arange(9.0), np.arange(9.0), resamples=5).auroc
    from oodbench.declare.layouts import METRICS
    from oodbench.leaderboards.rows import Cell

    cells = {m: Cell(100 * cell.value, 100 * cell.low, 100 * cell.high, None, 1) for m in METRICS}
    row = Row("p", "Detector", "S", "", "unsupervised", (0,), 500, cells, distinct, ())
    console = Console(width=200, record=True, file=None, quiet=True)
    console.quiet = False
    with console.capture() as captured:
        console.print(score_table("pair", [row], "caption"))
    printed = captured.get()
    assert ("many ties" in printed) == (mark == "*")
    assert ("collapsed" in printed) == (mark == "!")


def test_memory_of_the_bootstrap_does_not_grow_with_the_resamples() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=100_000), generator.normal(size=100_000)

    def peak(resamples: int) -> int:
        tracemalloc.start()
        try:
            evaluate(a, b, resamples=resamples)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(11), peak(44)
    assert many < 1.1 * few
    assert many < 250 * 2**20
