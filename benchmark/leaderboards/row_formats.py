"""Rows of a leaderboard as tidy mappings, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from oodbench.leaderboards.rounding import in_full
from oodbench.leaderboards.rows import Row
from oodbench.media import csv_row

COLUMNS = (
    "pair", "name", "detector", "score", "recipe", "scale", "category", "n_per_side", "seeds",
    "seed", "metric", "value", "low", "high", "sd", "runs", "notes", "mark",
)  # fmt: skip


def traced(runs: Sequence[str], notes: Sequence[str]) -> tuple[str, str]:
    """The last two columns of tidy rows: digests of the runs, and what has to be known of them."""
    return " ".join(run[:12] for run in runs), "; ".join(notes)


def tidy(rows: Sequence[Row]) -> list[dict[str, object]]:
    """One mapping of `COLUMNS` per row and metric, values in percent, None where there is none."""
    return [
        dict(zip(COLUMNS, (
            row.pair, row.name, row.detector, row.score, row.plain_recipe, row.scale, row.category,
            row.n, len(row.seeds), row.seed, metric, cell.value, cell.low, cell.high, cell.sd,
            *traced(row.runs, row.notes), row.mark,
        ), strict=True))
        for row in rows
        for metric, cell in row.cells.items()
    ]  # fmt: skip


def to_csv(rows: Sequence[Row]) -> str:
    """Tidy CSV of `COLUMNS`, every number in full."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for values in tidy(rows):
        writer.writerow(csv_row(in_full(values)))
    return out.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """A list of rows; metrics in percent with their interval or standard deviation."""
    return json.dumps([json_row(row) for row in rows], indent=1)


def json_row(row: Row) -> dict[str, object]:
    """A row as JSON wants it."""
    cells = {
        metric: {"value": c.value, "low": c.low, "high": c.high, "sd": c.sd}
        for metric, c in row.cells.items()
    }
    return {
        "pair": row.pair,
        "name": row.name,
        "detector": row.detector,
        "score": row.score,
        "recipe": row.plain_recipe,
        "scale": row.scale,
        "category": row.category,
        "seeds": list(row.seeds),
        "n_per_side": row.n,
        "metrics": cells,
        "distinct_scores": row.distinct,
        "train_seconds": row.train_seconds,
        "ms_per_image": row.ms_per_image,
        "runs": list(row.runs),
        "notes": list(row.notes),
        "members": row.members,
        "mark": row.mark,
    }
