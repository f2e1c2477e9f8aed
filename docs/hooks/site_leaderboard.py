"""The page of all published scores, from the records in the bundles of `results/published`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from site_text import cell, escaped, table

from oodbench.datasets.pairs import registered_pairs
from oodbench.declare.layouts import METRICS
from oodbench.detect.detector import DETECTORS, is_deterministic
from oodbench.leaderboards.rounding import shown
from oodbench.leaderboards.rows import MARK_LEGEND, Cell, Group, Row, group_runs, make_rows
from oodbench.share.transfer import archived_runs
from oodbench.store.store import Store

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
HEADS = {"auroc": "AUROC ↑", "auprc": "AUPRC ↑", "fpr80": "FPR80 ↓", "fpr95": "FPR95 ↓"}
COLUMNS = ("ID", "OOD", "detector", "score", "category", "recipe", "scale", "seeds", "n",
           *HEADS.values(), "date")  # fmt: skip
INTRODUCTION = """---
hide: [toc]
---
# Leaderboard

Every score in the bundles of `results/published`, {count}: percent, higher = more OOD. A click on
a head sorts by it, one more the other way round; the field keeps the rows in which all of its words
occur. Nothing is fetched.

"""
LEGEND = """
- *AUROC* and the others: mean ± standard deviation over training seeds; of one seed the value and
  its 95 % interval over test images ([What the numbers mean](numbers.md#intervals)). A † stands
  beside one seed of a model that is trained: another seed may move it by more than that interval.
- *scale*: how much was trained ([Models and recipes](recipes.md#scales)). `small` is what two cores
  train in minutes. It shows that signs and training are right, not how good a method can be, and
  scores of different scales are not to be ranked against each other.
- *seeds*: how many trainings; – where nothing is random. *n*: images of each side. *date*: of the
  last run.
- *category*: what a detector has seen ([Detectors](detectors/index.md)). `oracle` marks a choice
  made with the OOD results known; it is not set beside the others.
{marks}
The bundles: {bundles}. `oodbench store import FILE` adds one to a store, and `oodbench store verify
FILE` checks it and computes its metrics again from the scores in it.
"""
SCRIPT = '\n<script src="leaderboard.js"></script>\n'


def leaderboard_page() -> str:
    """The table of every score of every bundle, by pair and then by AUROC."""
    bundles = sorted(PUBLISHED.rglob("*-runs.tar"))
    with tempfile.TemporaryDirectory() as folder:
        runs = [entry for path in bundles for entry in archived_runs(Store(folder), path)]
    found = list(_rows(group_runs(runs)))
    found.sort(key=lambda one: (_sides(one[0]), -one[0].cells["auroc"].value))
    met = {row.mark for row, _ in found}
    return (
        INTRODUCTION.format(count=f"{len(found):,} in all")
        + table(COLUMNS, [_cells(row, date) for row, date in found])
        + LEGEND.format(
            marks="".join(f"- {escaped(text)}\n" for m, text in MARK_LEGEND.items() if m in met),
            bundles=", ".join(cell(str(path.relative_to(PUBLISHED))) for path in bundles),
        )
        + SCRIPT
    )


def _rows(groups: Iterable[Group]) -> Iterator[tuple[Row, str]]:
    """Every row, and the day of its last run."""
    for group in groups:
        for row in make_rows(group):
            yield row, group.newest.partition("T")[0]


def _sides(row: Row) -> tuple[str, str]:
    pair = registered_pairs()[row.pair]
    return pair.in_dist, pair.ood


def _cells(row: Row, date: str) -> list[str]:
    detector = DETECTORS.get(row.name)
    random = not is_deterministic(detector)
    single = random and len(row.seeds) == 1
    return [
        *map(escaped, _sides(row)),
        f"[{escaped(row.detector)}](detectors/{row.name}.md){escaped(row.mark)}",
        cell(row.score),
        row.category,
        cell(row.plain_recipe),
        row.scale if row.recipe else "",
        str(len(row.seeds)) if random else "–",
        f"{row.n:,}",
        *(_metric(row.cells[name], single) for name in METRICS if name in HEADS),
        date,
    ]


def _metric(found: Cell, single: bool) -> str:
    """``84.1 ± 0.6``, ``84.1† [83.5, 84.7]``, on one line."""
    text = f"{shown(found.value)}† {found.interval}".rstrip() if single else found.text
    return escaped(text).replace(" ", "&nbsp;")
