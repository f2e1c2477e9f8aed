"""How often the printed intervals hold the true value: the table of `docs/numbers.md`.

    python tests/experiments/interval_coverage.py --repetitions 1000

Test sets of n ID and n OOD images are drawn again and again from two normal distributions of unit
variance, μ = √2 Φ⁻¹(AUROC) apart; the true AUROC, AUPRC and FPR of the distributions themselves
follow by quadrature.  A column holds the share of test sets, in percent, whose 95 % interval held
the truth.  "Difference": two detectors of the same AUROC, their scores correlated at 0.8 on either
side, and `paired_delong`'s interval of their difference.  The table is that of the seed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from oodbench.rank.metrics import METRICS, evaluate
from oodbench.rank.significance import paired_delong

SEED = 20261129
SIZES = (20, 50, 500)
AREAS = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
CORRELATION = 0.8
COLUMNS = (*METRICS, "difference")
HEADS = {"auroc": "AUROC", "auprc": "AUPRC", "fpr80": "FPR80", "fpr95": "FPR95",
         "difference": "Difference"}  # fmt: skip


def distance(area: float) -> float:
    """How far apart the means of two normal distributions of that AUROC are."""
    return float(math.sqrt(2.0) * ndtri(area))


def truth(area: float) -> dict[str, float]:
    """AUROC, AUPRC (equal sides), FPR80 and FPR95 of the distributions."""
    shift = distance(area)

    def fpr(tpr: float) -> float:
        return float(ndtr(ndtri(tpr) - shift))

    auprc = quad(lambda t: t / (t + fpr(t)), 0, 1, limit=400, points=[0.9, 0.99, 0.999])[0]
    return {"auroc": area, "auprc": auprc, "fpr80": fpr(0.80), "fpr95": fpr(0.95),
            "difference": 0.0}  # fmt: skip


def held(
    size: int, area: float, repetitions: int, *, resamples: int = 1000, seed: int = SEED
) -> dict[str, float]:
    """The share of repetitions whose interval held the truth, by column."""
    generator = np.random.default_rng([seed, size, round(1e6 * area)])
    expected, hits = truth(area), dict.fromkeys(COLUMNS, 0)
    for repetition in range(repetitions):
        for name, low, high in _intervals(generator, size, area, resamples, repetition):
            hits[name] += low <= expected[name] <= high
    return {name: count / repetitions for name, count in hits.items()}


def _intervals(
    generator: np.random.Generator, size: int, area: float, resamples: int, repetition: int
) -> Iterator[tuple[str, float, float]]:
    """(column, low, high) of one pair of test sets."""
    common = generator.normal(size=(2, size))
    own = generator.normal(size=(2, 2, size))
    scores = math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * own
    scores[:, 1] += distance(area)
    (id_a, ood_a), (id_b, ood_b) = scores
    found = evaluate(id_a, ood_a, resamples=resamples, seed=repetition)
    for name in METRICS:
        interval = getattr(found, name)
        yield name, interval.low, interval.high
    difference = paired_delong(id_a, ood_a, id_b, ood_b)
    yield "difference", difference.low, difference.high


def line(size: int, area: float, shares: Mapping[str, float]) -> str:
    """A row of the table, in Markdown."""
    cells = (f"{100 * shares[name]:.1f}" for name in COLUMNS)
    return f"| {size} | {area:g} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    print(f"| n | true AUROC | {' | '.join(HEADS[name] for name in COLUMNS)} |")
    print(f"|---|---|{'---|' * len(COLUMNS)}")
    for size in SIZES:
        for area in AREAS:
            shares = held(size, area, asked.repetitions, seed=asked.seed)
            print(line(size, area, shares), flush=True)


if __name__ == "__main__":
    main()
