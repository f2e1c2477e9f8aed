"""The tables that a run prints: one per pair, its caption, and one of the models.

Those of stored runs in other layouts and formats are `oodbench.tables.general` and its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.declare.layouts import METRICS
from oodbench.leaderboards.rounding import as_shown
from oodbench.leaderboards.rows import (
    Group,
    Row,
    category_legend,
    category_tag,
    mark_legend,
)
from oodbench.tables.images import compared_row, image_notes, seeds_note, sizes
from oodbench.tables.render.console import Boxed

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON
    from oodbench.tables.render.console import Justify

HEADS = {"auroc": "AUROC ↑", "auprc": "AUPRC ↑", "fpr80": "FPR80 ↓", "fpr95": "FPR95 ↓"}


def score_table(pair: str, rows: Sequence[Row], caption: str, paper: Sequence[str] = (),
                *, ranked: bool = False, years: Sequence[str] = ()) -> Boxed:  # fmt: skip
    """The table of one pair for a terminal; the best of a column is bold, oracle choices aside.

    `paper`: for every row the AUROC that a paper prints, or "".  `ranked`: rows stand by a metric,
    so that every one bears its detector's name.  `years`: for every row that of its method.
    """
    legend = [*mark_legend(rows), *category_legend(rows)]
    columns = [("Detector", "left"), ("Score", "left"), *((HEADS[m], "right") for m in METRICS)]
    if any(paper):
        columns.append(("Paper", "right"))
        legend.append("Paper: the AUROC printed for the model of the recipe at scale paper")
    if any(years):
        columns.append(("Year", "right"))
        legend.append("Year: when the method was first public")
    table = Boxed(
        pair, cast("list[tuple[str, Justify]]", columns), "; ".join([caption, *legend]),
        spare=(HEADS["fpr80"], HEADS["fpr95"], "Paper", HEADS["auprc"], "Year"),
    )  # fmt: skip
    best = {m: _best(rows, m) for m in METRICS}
    names, last = _names(rows), ""
    none = [""] * len(rows)
    for row, shown, printed, year in zip(rows, names, paper or none, years or none, strict=True):
        if last and shown != last and not ranked:
            table.end_section()
        bold = [
            i
            for i, m in enumerate(METRICS, start=2)
            if row.category != "oracle" and as_shown(row.cells[m].value) == best[m]
        ]
        name = f"{shown} {row.tag}".rstrip() if ranked or shown != last else ""
        tag = category_tag("oracle") if row.category == "oracle" else ""
        score = " ".join(part for part in (row.score, tag, row.mark) if part)
        beside = [printed] if any(paper) else []
        beside += [year if name else ""] if any(years) else []
        table.add(name, score, *(row.cells[m].text for m in METRICS), *beside, bold=bold)
        last = shown
    return table


def _names(rows: Sequence[Row]) -> list[str]:
    """The detector of every row, with its recipe where the table has several of it."""
    recipes: dict[str, set[str]] = {}
    for row in rows:
        recipes.setdefault(row.detector, set()).add(row.recipe)
    return [
        f"{row.detector} {row.recipe}".rstrip() if len(recipes[row.detector]) > 1 else row.detector
        for row in rows
    ]


def _best(rows: Sequence[Row], metric: str) -> float:
    values = [as_shown(row.cells[metric].value) for row in rows if row.category != "oracle"]
    return (max if metric in ("auroc", "auprc") else min)(values, default=math.nan)


def diagnostics_table(groups: Sequence[Group]) -> Boxed | None:
    """Per model: bits/dim on ID train and test, KL and active units per layer, time; or None."""
    heads = ("Model", "Seed", "bits/dim train", "bits/dim test", "L>k bits/dim", "KL", "Active",
             "Train s")  # fmt: skip
    columns = [(head, "left" if head == "Model" else "right") for head in heads]
    table = Boxed(
        "Models", cast("list[tuple[str, Justify]]", columns),
        "bits/dim of L>k on ID images for k = 0, 1, … (no bound on log p(x) where the lower"
        " layers are at their modes, as HVK has them); KL in nats and active units (variance of"
        " the posterior mean > 0.01) of layers 1, 2, … on ID test images",
        no_wrap=False, spare=("L>k bits/dim", "Train s", "bits/dim train", "Active", "Seed"),
    )  # fmt: skip
    # Detectors that share a fit and its measurement say the same of it: one row is enough.
    seen: set[tuple[str, ...]] = set()
    for group in groups:
        for entry in group.entries:
            row = _diagnostics_row(entry.record, group)
            names = ("recipe", "scale", "variant", "in_dist")
            if row is None or (same := (*(str(entry.record[n]) for n in names), *row[1:])) in seen:
                continue
            seen.add(same)
            table.add(*row)
    return table if seen else None


def _diagnostics_row(record: Mapping[str, JSON], group: Group) -> list[str] | None:
    diagnostics = cast("Mapping[str, Mapping[str, JSON]]", record["diagnostics"])
    if "bits_per_dim" not in diagnostics.get("id_test", {}):
        return None
    test, train = diagnostics["id_test"], diagnostics.get("id_train", {})
    cost = cast("Mapping[str, float]", record["cost"])

    def numbers(name: str, digits: int) -> str:
        values = cast("list[float]", test.get(name, []))
        return " / ".join(_short(v, digits) for v in values)

    return [
        f"{group.title} {record['recipe']}-{record['scale']}"
        f"{group.mark and ' ' + group.mark} on {record['in_dist']}",
        str(record["seed"]),
        f"{float(cast(float, train['bits_per_dim'])):.3f}" if train else "",
        f"{float(cast(float, test['bits_per_dim'])):.3f}",
        numbers("bits_per_dim_k", 2),
        numbers("kl_nats", 1),
        " ".join(cast("list[str]", test.get("active_units", []))),
        f"{cost.get('train_seconds', math.nan):.0f}",
    ]


def _short(value: float, digits: int) -> str:
    if value and abs(value) < 10**-digits:
        return f"{value:.0e}"
    return f"{value:.{digits}f}"


def caption(rows: Sequence[Row]) -> str:
    """How many images stand behind the rows of a pair, what the signs of a cell mean, and notes."""
    found = [compared_row(row) for row in rows]
    kinds = []
    if any(row.cells["auroc"].low is not None for row in rows):
        kinds.append(
            "[low, high]: 95 % interval over test images, one seed (AUROC: DeLong; AUPRC:"
            " bootstrap; FPR: bootstrap and Clopper–Pearson)"
        )
    several = [row for row in found if row.seeds > 1]
    if several:
        kinds.append(f"±: sample standard deviation over {seeds_note(several)}")
    return "; ".join([sizes(found), *kinds, *image_notes(found)])
