"""What the figure `settling` draws, as tidy rows: a number per budget and quantity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from oodbench.leaderboards.row_formats import traced
from oodbench.sweeps.results import Spread
from oodbench.sweeps.settling import Budget, Curve

COLUMNS = (
    "in_dist", "ood", "detector", "recipe", "category", "metric", "score", "epochs", "images",
    "passes", "loss", "value", "low", "high", "sd", "seeds", "seed", "n_per_side", "runs", "notes",
)  # fmt: skip


def tidy_settling(curves: Iterable[Curve]) -> list[dict[str, object]]:
    """One mapping of `COLUMNS` per budget and AUROC (%), L>k (bits/dim) and KL (nats) of a curve.

    `loss`: ``changing`` where a warm-up or free bits were not over at that budget, else ``final``.
    """
    return [
        row for curve in curves for budget in curve.budgets
        for row in [*_areas(curve, budget), *_layers(curve, budget)]
    ]  # fmt: skip


def _areas(curve: Curve, budget: Budget) -> list[dict[str, object]]:
    rows = []
    for score in curve.scores:
        row, found = budget.row(score), budget.auroc(score)
        rows.append(_row(
            curve, budget, budget.group.first["ood"], row.category, "auroc", score,
            found.cell.value, found.low, found.high, found.cell.sd, row.n,
        ))  # fmt: skip
    return rows


def _layers(curve: Curve, budget: Budget) -> list[dict[str, object]]:
    """Of ID test images, whatever the OOD set."""
    kinds: Sequence[tuple[str, str, int, Sequence[Spread]]] = (
        ("bits_per_dim", "L>", 0, budget.bits_per_dim()),
        ("kl_nats", "KL_", 1, budget.kl()),
    )
    category = budget.row(curve.scores[0]).category
    return [
        _row(
            curve, budget, None, category, metric, "L" if head + str(k) == "L>0" else f"{head}{k}",
            found.mean, None, None, found.sd, None,
        )
        for metric, head, first, layers in kinds
        for k, found in enumerate(layers, start=first)
    ]  # fmt: skip


def _row(curve: Curve, budget: Budget, ood: object, *values: object) -> dict[str, object]:
    row, trained = budget.row(curve.scores[0]), budget.trained
    category, metric, score, value, low, high, sd, count = values
    found = (
        budget.group.first["in_dist"], ood, curve.label, row.recipe, category, metric, score,
        trained.epochs, trained.images, trained.passes,
        "changing" if trained.changing else "final", value, low, high, sd, len(row.seeds),
        row.seed, count, *traced(row.runs, row.notes),
    )  # fmt: skip
    return dict(zip(COLUMNS, found, strict=True))
