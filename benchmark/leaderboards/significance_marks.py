"""Significance over a whole board: who is as good as the best, who beats the trivial detectors.

Every question is one family of paired DeLong tests on AUROC, corrected after Holm over the table.
A row of several seeds is tested with the first seed that it shares with the one it meets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from oodbench.errors import StoreError
from oodbench.leaderboards.board import TRIVIAL, Board, Place
from oodbench.leaderboards.paired_tests import PairedScores, paired_seeds

ALPHA = 0.05
Where: TypeAlias = tuple[int, str]


@dataclass
class Family:
    """p-values of a family of tests by place (row index, pair), Holm-adjusted by `finish`."""

    differences: dict[Where, float] = field(default_factory=dict)
    p_values: dict[Where, float] = field(default_factory=dict)
    untested: dict[Where, str] = field(default_factory=dict)

    def finish(self) -> Family:
        """The family with adjusted p-values."""
        from oodbench.rank.significance import holm

        adjusted = holm(list(self.p_values.values()))
        self.p_values = dict(zip(self.p_values, adjusted, strict=True))
        return self


def against(board: Board, scores: PairedScores, chosen: Callable[[str], int | None]) -> Family:
    """Every row but oracle choices against the row that `chosen` names for the pair."""
    family = Family()
    for pair in board.pairs:
        reference = chosen(pair)
        if reference is None:
            continue
        other = board.rows[reference].places[pair]
        for index, place in board.fair(pair):
            if index != reference:
                _test(family, (index, pair), scores, place, other)
    return family.finish()


def _test(family: Family, where: Where, scores: PairedScores, a: Place, b: Place) -> None:
    shared = paired_seeds(a.group, b.group)
    if not shared:
        family.untested[where] = "no seed in common"
        return
    _, left, right = shared[0]
    try:
        result = scores.compare(left, a.score, right, b.score)
    except StoreError as error:
        family.untested[where] = str(error)
        return
    family.differences[where] = result.difference
    family.p_values[where] = result.p_value


def as_good_as_best(board: Board, scores: PairedScores) -> Family:
    """Every row against the best AUROC of its pair, oracle choices aside."""

    def best(pair: str) -> int | None:
        column = board.fair(pair)
        if len(column) < 2:
            return None
        return max(column, key=lambda item: item[1].row.cells["auroc"].value)[0]

    return against(board, scores, best)


def above_trivial(board: Board, scores: PairedScores) -> Family:
    """Every row against the best trivial detector of its pair, where one ran."""

    def best(pair: str) -> int | None:
        trivial = [
            (place.row.cells["auroc"].value, index)
            for index, place in board.column(pair)
            if board.rows[index].detector in TRIVIAL
        ]
        return max(trivial)[1] if trivial else None

    return against(board, scores, best)


def verdict(family: Family, where: Where) -> Literal["", "yes", "no", "undecided", "untested"]:
    """Whether the AUROC at a place lies above the one it was tested against."""
    if where in family.untested:
        return "untested"
    if where not in family.p_values:
        return ""
    if family.p_values[where] >= ALPHA:
        return "undecided"
    return "yes" if family.differences[where] > 0 else "no"
