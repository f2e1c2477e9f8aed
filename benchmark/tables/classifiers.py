"""How good the classifiers are that detectors with labels stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.leaderboards.rows import Group

if TYPE_CHECKING:
    from oodbench.tables.render.console import Boxed


def classifiers_table(groups: Sequence[Group]) -> Boxed | None:
    """One row per classifier: accuracy, calibration error, training time; None without any.

    Detectors that share a fit say the same of it: one row is enough.
    """
    from oodbench.tables.render.console import Boxed

    table = Boxed(
        "Classifiers",
        [("Recipe", "left"), ("Variant", "left"), ("Seed", "right"), ("Accuracy", "right"),
         ("ECE", "right"), ("Train s", "right")],
        "percent of the ID test images; ECE: expected calibration error, 15 bins",
        spare=("Train s", "ECE"),
    )  # fmt: skip
    rows: dict[tuple[str, ...], None] = {}
    for group in groups:
        for entry in group.entries:
            row = _row(entry.record)
            if row is not None:
                rows[row] = None
    for row in rows:
        table.add(*row)
    return table if rows else None


def _row(record: Mapping[str, JSON]) -> tuple[str, ...] | None:
    sides = cast("Mapping[str, Mapping[str, float]]", record["diagnostics"])
    test = sides.get("id_test", {})
    if "accuracy" not in test:
        return None
    seconds = cast("Mapping[str, float]", record["cost"]).get("train_seconds")
    return (
        f"{record['recipe']}-{record['scale']} on {record['in_dist']}",
        str(record["variant"]),
        str(record["seed"]),
        f"{100 * test['accuracy']:.1f}",
        f"{100 * test['calibration_error']:.1f}",
        "" if seconds is None else f"{seconds:.0f}",
    )
