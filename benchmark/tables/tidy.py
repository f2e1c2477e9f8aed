"""A filled layout as tidy rows, for CSV and JSON: one mapping per cell, empty cells too."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence

from oodbench.datasets.pairs import get_pair
from oodbench.declare.layouts import Layout, Select
from oodbench.leaderboards.rounding import in_full
from oodbench.leaderboards.row_formats import traced
from oodbench.media import csv_row
from oodbench.tables.layout.filled import Filled, fill
from oodbench.tables.layout.markup import parse, plain
from oodbench.tables.sources.numbers import Source

COLUMNS = (
    "table", "row", "in_dist", "ood", "detector", "recipe", "score", "metric", "value", "low",
    "high", "sd", "seeds", "n_per_side", "runs", "notes",
)  # fmt: skip


def tidy_layout(layout: Layout, source: Source) -> list[dict[str, object]]:
    """One mapping of `COLUMNS` per cell; metrics in percent, None where there is none."""
    return [tidy_cell(layout, cell) for cell in fill(layout, source)]


def tidy_cell(layout: Layout, cell: Filled) -> dict[str, object]:
    """One cell as a mapping of `COLUMNS`."""
    query, number = cell.query, cell.number
    pair = get_pair(str(query["pair"]))
    values: tuple[object, ...] = (None,) * 8
    if number is not None:
        values = (number.value, number.low, number.high, number.sd, number.seeds, number.n,
                  *traced(number.runs, number.notes))  # fmt: skip
    recipe = number.recipe if number is not None else query.get("recipe")
    found = (
        layout.name, plain(parse(cell.row.label)), pair.in_dist,
        None if str(query.get("side", "")).startswith("id_") else query.get("mean", pair.ood),
        query["detector"], recipe, query.get("score"), quantity(query), *values,
    )  # fmt: skip
    return dict(zip(COLUMNS, found, strict=True))


def quantity(query: Select) -> str:
    """``auroc``, ``bits_per_dim``, ``kl_nats[2]``: what the number is."""
    name = str(query.get("metric", query.get("diagnostic", "")))
    return f"{name}[{query['index']}]" if "index" in query else name


def rows_to_csv(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """CSV with a head line, every number in full, nothing where there is no value."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(csv_row(in_full(row)))
    return out.getvalue()


def rows_to_json(rows: Iterable[Mapping[str, object]]) -> str:
    """A list of objects, one a line, null where there is no value."""
    return "[\n" + ",\n".join(json.dumps(dict(row)) for row in rows) + "\n]\n"
