"""Significance over a whole board: who is as good as the best, who beats the trivial detectors.

Every question is one family of tests on AUROC, over the test images and the training seeds that two
rows share (`oodbench.rank.seeds_and_images`).  The best of a column is the best *as observed*, so
that any two rows of it might have been compared: Holm's correction counts all of these
comparisons.  A score that judges groups of images meets those that judge groups of the same size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from oodbench.errors import StoreError
from oodbench.leaderboards.board import TRIVIAL, Board, Place
from oodbench.leaderboards.paired_tests import PairedScores

ALPHA = 0.05
NOT_BELOW, UNTESTED = "†", "?"
Where: TypeAlias = tuple[int, str]
Verdict: TypeAlias = Literal["", "best", "yes", "no", "undecided", "untested"]


@dataclass
class Family:
    """p-values of a family of tests by place (row index, pair), Holm-adjusted by `finish`.

    `references` are the rows that the others met, those of a column with several in `split`;
    `comparisons` is what Holm's correction counts.
    """

    differences: dict[Where, float] = field(default_factory=dict)
    p_values: dict[Where, float] = field(default_factory=dict)
    untested: dict[Where, str] = field(default_factory=dict)
    references: set[Where] = field(default_factory=set)
    split: set[str] = field(default_factory=set)
    comparisons: int = 0
    seeds: int = 1

    def finish(self) -> Family:
        """The family with adjusted p-values."""
        from oodbench.rank.significance import holm

        adjusted = holm(list(self.p_values.values()), self.comparisons)
        self.p_values = dict(zip(self.p_values, adjusted, strict=True))
        return self

    def test(self, where: Where, scores: PairedScores, a: Place, b: Place) -> None:
        """The test of a place against another, or why there is none."""
        try:
            found = scores.over_seeds_and_images(a.group, a.score, b.group, b.score)
        except StoreError as error:
            self.untested[where] = str(error)
            return
        self.differences[where] = found.difference
        self.p_values[where] = found.p_value
        self.seeds = max(self.seeds, found.seeds)


def as_good_as_best(board: Board, scores: PairedScores) -> Family:
    """Every row against the best AUROC of its pair among scores of as many images at once.

    Oracle choices are left aside.
    """
    family = Family()
    for pair in board.pairs:
        sizes = _by_size(board.fair(pair))
        family.split |= {pair} if len(sizes) > 1 else set()
        for column in sizes.values():
            best, other = max(column, key=_area)
            family.references.add((best, pair))
            family.comparisons += len(column) * (len(column) - 1) // 2
            for index, place in column:
                if index != best:
                    family.test((index, pair), scores, place, other)
    return family.finish()


def above_trivial(board: Board, scores: PairedScores) -> Family:
    """Every row but oracle choices against the best trivial detector of its pair, where one ran."""
    family = Family()
    for pair in board.pairs:
        trivial = [(i, p) for i, p in board.column(pair) if board.rows[i].detector in TRIVIAL]
        if not trivial:
            continue
        reference, other = max(trivial, key=_area)
        family.references.add((reference, pair))
        for index, place in board.fair(pair):
            if index != reference:
                family.test((index, pair), scores, place, other)
    family.comparisons = len(family.p_values)
    return family.finish()


def _by_size(column: Iterable[tuple[int, Place]]) -> Mapping[int, list[tuple[int, Place]]]:
    """The places of a column by how many images their scores judge at once."""
    sizes: dict[int, list[tuple[int, Place]]] = {}
    for index, place in column:
        sizes.setdefault(place.row.members, []).append((index, place))
    return sizes


def _area(item: tuple[int, Place]) -> float:
    return item[1].row.cells["auroc"].value


def verdict(family: Family, where: Where) -> Verdict:
    """Whether the AUROC at a place lies above the one it was tested against."""
    if where in family.references:
        return "best"
    if where in family.untested:
        return "untested"
    if where not in family.p_values:
        return ""
    if family.p_values[where] >= ALPHA:
        return "undecided"
    return "yes" if family.differences[where] > 0 else "no"


def dagger(family: Family | None, where: Where) -> str:
    """† where an AUROC is not below the best of its column, ? where that was not tested.

    The best has none, but where a column has one for every size of groups.
    """
    found = verdict(family, where) if family is not None else ""
    if found == "untested":
        return UNTESTED
    beside_others = found == "best" and family is not None and where[1] in family.split
    return NOT_BELOW if found in ("undecided", "yes") or beside_others else ""


def beats_trivial(family: Family, board: Board, where: Where) -> str:
    """`verdict` in the family of `above_trivial`; "trivial" of one of these itself.


    "constant": such a score stands at 50, above trivial ones that are reversed, and tells nothing.
    """
    row = board.rows[where[0]]
    if row.detector in TRIVIAL:
        return "trivial"
    return "constant" if row.places[where[1]].row.constant else verdict(family, where)
