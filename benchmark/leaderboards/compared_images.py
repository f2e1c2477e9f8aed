"""The images behind a score's metrics: the equal-size rule, groups and oracle choices applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from oodbench.errors import StoreError
from oodbench.rank.metrics import equal_size, group_members

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON
    from oodbench.store.store import Entry

    #: The columns of a score entry, (N,) each, by name.
    Table: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """Scores of the compared ID and OOD images, (n,) each, and their rows in the score entries.

    With `members` > 1 a score judges groups of that many images, and a row is a group's first.
    """

    id_scores: np.ndarray
    ood_scores: np.ndarray
    id_rows: np.ndarray
    ood_rows: np.ndarray
    members: int = 1


def compared(run: Entry, score: str, id_table: Table, ood_table: Table) -> Compared:
    """What the metrics of `score` in a run were computed from.

    An oracle choice stands for the score that it chose.  StoreError where the tables do not hold
    the score, or hold no groups although the record counts groups.
    """
    record = cast("Mapping[str, Mapping[str, JSON]]", run.record["scores"])[score]
    column = str(record.get("oracle", score))
    if column not in id_table or column not in ood_table:
        raise StoreError(f"the scores of run {run.digest[:12]} have no column {column!r}")
    sides = id_table[column], ood_table[column]
    counts, n = (len(sides[0]), len(sides[1])), int(cast(int, record["n_id"]))
    if n == min(counts):
        seed = cast("Mapping[str, int]", run.parts["metrics"])["equal_size_seed"]
        id_rows, ood_rows = equal_size(*counts, seed)
        return Compared(sides[0][id_rows], sides[1][ood_rows], id_rows, ood_rows)
    members = _members(sides, n, int(cast(int, record.get("members", 0))))
    if members is None:
        raise StoreError(
            f"run {run.digest[:12]}: {score} was evaluated on {n:,} groups, but its scores are not"
            " those of groups"
        )
    rows = [group_members(count, members)[:n, 0] for count in counts]
    return Compared(sides[0][rows[0]], sides[1][rows[1]], rows[0], rows[1], members)


def _members(sides: tuple[np.ndarray, np.ndarray], n: int, recorded: int) -> int | None:
    """Images per group where `n` groups were compared: every member bears its group's score.

    The `recorded` number where there is one.
    """
    smaller = min(map(len, sides))
    sizes = [recorded] if recorded else range(smaller // (n + 1) + 1, smaller // n + 1)
    for size in sizes:
        groups = [side[group_members(len(side), size)] for side in sides]
        if all((group == group[:, :1]).all() for group in groups):
            return size
    return None


def metrics_from(run: Entry, id_table: Table, ood_table: Table) -> dict[tuple[str, str], float]:
    """Every metric of every score of a run, 0 to 1 by (score, metric), computed from the tables.

    StoreError as `compared`.
    """
    from oodbench.rank.metrics import RATES, auroc, average_precision, fpr_at_tpr

    found = {}
    for name in cast("Mapping[str, object]", run.record["scores"]):
        held = compared(run, name, id_table, ood_table)
        sides = held.id_scores, held.ood_scores
        found[name, "auroc"] = auroc(*sides)
        found[name, "auprc"] = average_precision(*sides)
        for rate, tpr in RATES.items():
            found[name, rate] = fpr_at_tpr(*sides, tpr)
    return found
