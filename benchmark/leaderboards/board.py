"""The general table of a suite or of a store: what its rows are, before anything is printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from oodbench.flow.plan import DetectorRequest, select_scores
from oodbench.leaderboards.named_runs import request_for
from oodbench.leaderboards.rows import Group, Row, make_rows, overrides_of, titled

#: The detectors that need no model; what does not beat them has shown nothing.
TRIVIAL = ("mean-intensity", "pixel-variance", "png-length")


@dataclass(frozen=True)
class Place:
    """One score of one detector on one pair."""

    group: Group
    row: Row

    @property
    def score(self) -> str:
        """The record's name of the score."""
        return self.row.score or "score"


@dataclass(frozen=True)
class BoardRow:
    """One score of one detector on the pairs it ran on, by their names."""

    detector: str
    label: str
    score: str
    places: Mapping[str, Place]


@dataclass(frozen=True)
class Board:
    """Rows × pairs; `pairs` maps a pair's name to its ID set."""

    rows: tuple[BoardRow, ...]
    pairs: Mapping[str, str]

    def column(self, pair: str) -> list[tuple[int, Place]]:
        """(index of the row, place) of every row that ran on a pair."""
        return [(i, row.places[pair]) for i, row in enumerate(self.rows) if pair in row.places]

    def fair(self, pair: str) -> list[tuple[int, Place]]:
        """`column` without oracle choices, which have seen the OOD results."""
        return [(i, place) for i, place in self.column(pair) if place.row.category != "oracle"]


def shown_scores(group: Group, request: DetectorRequest | None, all_scores: bool) -> list[str]:
    """The scores to print: those asked for, else all but L>k, KL<=k, KL>k, LLR_ada_eq11.

    The sum of all KL terms, KL<=L, is one of those that are printed.
    """
    names = group.score_names
    if request is not None and request.scores:
        return select_scores(request, names)
    if all_scores:
        return names
    whole = f"KL<={group.first['layers']}"
    return [
        n for n in names
        if n == whole or not (n.startswith(("L>", "KL<=", "KL>")) or n == "LLR_ada_eq11")
    ]  # fmt: skip


def make_board(
    groups: Sequence[Group],
    asked: Mapping[str, DetectorRequest] | None = None,
    all_scores: bool = False,
) -> Board:
    """Rows in the order of the groups; the same detector and depth is one row on all pairs.

    A depth that titles do not show (of the HVAE behind input complexity) makes no other row.

    Where several runs of a detector meet on one pair (other recipes, scales, configurations),
    each has a row of its own, named after its recipe.
    """
    pairs = {str(g.first["pair"]): str(g.first["in_dist"]) for g in groups}
    clashing = _clashing(groups)
    rows: dict[tuple[str, ...], dict[str, Place]] = {}
    labels: dict[tuple[str, ...], str] = {}
    for group in groups:
        key = _key(group)
        distinct = (*key, *_difference(group)) if key in clashing else key
        request = request_for(group, asked)
        for row in make_rows(group, shown_scores(group, request, all_scores)):
            name = (*distinct, row.score)
            title = row.detector.removesuffix(f" {group.mark}") if group.mark else row.detector
            parts = [title, row.recipe, group.mark] if key in clashing else [title]
            labels[name] = " ".join(part for part in parts if part)
            rows.setdefault(name, {})[row.pair] = Place(group, row)
    return Board(
        tuple(BoardRow(name[0], labels[name], name[-1], places) for name, places in rows.items()),
        pairs,
    )


def _key(group: Group) -> tuple[str, ...]:
    """The detector, its depth where a title shows it, and what was changed by hand."""
    first = group.first
    shows_depth = titled(first) != first["title"]
    depth = str(first["layers"]) if shows_depth else ""
    return str(first["detector"]), depth, *overrides_of(first)


def _difference(group: Group) -> tuple[str, ...]:
    return str(group.first["recipe"]), str(group.first["scale"]), group.mark


def _clashing(groups: Iterable[Group]) -> set[tuple[str, ...]]:
    """Keys of which several runs meet on one pair."""
    seen: set[tuple[str, ...]] = set()
    clashing = set()
    for group in groups:
        met = (*_key(group), str(group.first["pair"]))
        if met in seen:
            clashing.add(_key(group))
        seen.add(met)
    return clashing


def shared_id_models(pairs: Mapping[str, str]) -> list[list[str]]:
    """Names of pairs that share an ID set, and so its models; sets with one pair left out."""
    by_id: dict[str, list[str]] = {}
    for pair, in_dist in pairs.items():
        by_id.setdefault(in_dist, []).append(pair)
    return [names for names in by_id.values() if len(names) > 1]


def mean_ranks(board: Board) -> dict[int, float]:
    """Mean rank by AUROC over the pairs, 1 = best, ties sharing the mean of their ranks.

    Only rows that ran on every pair are ranked, among themselves and without oracle choices; keys
    are row indices.
    """
    fair = {i for pair in board.pairs for i, _ in board.fair(pair)}
    complete = [i for i in sorted(fair) if set(board.rows[i].places) == set(board.pairs)]
    totals = dict.fromkeys(complete, 0.0)
    for pair in board.pairs:
        values = {i: board.rows[i].places[pair].row.cells["auroc"].value for i in complete}
        for i in complete:
            above = sum(v > values[i] for v in values.values())
            equal = sum(v == values[i] for v in values.values())
            totals[i] += above + (equal + 1) / 2
    return {i: total / len(board.pairs) for i, total in totals.items()}
