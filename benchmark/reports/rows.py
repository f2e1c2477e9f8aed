"""The rows of the leaderboard as the page's script wants them: short lists, names by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oodbench.canonical_json import JSON
from oodbench.declare.layouts import METRICS
from oodbench.leaderboards.board import Board, Place
from oodbench.leaderboards.rounding import as_shown
from oodbench.leaderboards.rows import Cell, Group
from oodbench.leaderboards.significance_marks import NOT_BELOW as DAGGER
from oodbench.leaderboards.significance_marks import UNTESTED as UNTESTED_SIGN
from oodbench.leaderboards.significance_marks import Family, beats_trivial, dagger
from oodbench.leaderboards.stored_groups import recipe_label
from oodbench.store.records.files import IMPORTED
from oodbench.tables.general import leaders

#: What a row holds, in this order; the script reads the same list.
FIELDS = ("pair", "detector", "score", "category", "recipe", "scale", "group", "seeds", "n",
          "members", "marks", "trivial", *METRICS)  # fmt: skip
#: Bits of "marks": best of its pair per metric, second best, then AUROC not below the best and not
#: tested against it, many ties, collapsed, reversed.
SECOND = len(METRICS)
NOT_BELOW, UNTESTED, TIES, COLLAPSED, REVERSED = range(2 * SECOND, 2 * SECOND + 5)


@dataclass(frozen=True)
class BoardRow:
    """A score of a detector on a pair, and what the tests said of it."""

    place: Place
    marks: int
    trivial: str


def board_rows(board: Board, as_good: Family | None, trivial: Family | None) -> list[BoardRow]:
    """Pair by pair in the board's order, the highest AUROC first."""
    first, second = leaders(board, list(board.pairs))
    out = []
    for pair in board.pairs:
        found = []
        for index, place in board.column(pair):
            marks = sum(
                ((index, pair, metric) in first) << bit
                | ((index, pair, metric) in second) << (SECOND + bit)
                for bit, metric in enumerate(METRICS)
            )
            where = (index, pair)
            signs = dagger(as_good, where)
            said = {NOT_BELOW: signs == DAGGER, UNTESTED: signs == UNTESTED_SIGN,
                    TIES: place.row.mark == "*", COLLAPSED: place.row.mark == "!",
                    REVERSED: place.row.cells["auroc"].below(50.0)}  # fmt: skip
            marks |= sum(known << bit for bit, known in said.items())
            beats = beats_trivial(trivial, board, where) if trivial is not None else ""
            found.append(BoardRow(place, marks, beats))
        out += sorted(found, key=lambda row: -row.place.row.cells["auroc"].value)
    return out


@dataclass
class Names:
    """Texts that occur again and again, by the number of their first appearance."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        """The number of a text, a new one where it is new."""
        return self.numbers.setdefault(text, len(self.numbers))


def table_json(rows: Sequence[BoardRow], groups: Sequence[Group]) -> dict[str, JSON]:
    """`fields`, the `names` of those that hold a number of a name, the runs' keys, and `rows`.

    A metric is [value, low, high] for one seed and [mean, sd] for several, percent.
    """
    places = {id(group): number for number, group in enumerate(groups)}
    names = {what: Names() for what in FIELDS[:6]}
    lines: list[JSON] = []
    for found in rows:
        row, group = found.place.row, found.place.group
        name = row.detector + (" [imported]" if IMPORTED in group.first else "")
        texts = (row.pair, name, row.score, row.category, recipe_label(group),
                 str(group.first["scale"]))  # fmt: skip
        lines.append([
            *(names[what].number(text) for what, text in zip(FIELDS, texts, strict=False)),
            places[id(group)], len(row.seeds), row.n, row.members, found.marks, found.trivial,
            *(metric_json(row.cells[metric]) for metric in METRICS),
        ])  # fmt: skip
    return {
        "fields": list(FIELDS),
        "names": {what: list(known.numbers) for what, known in names.items()},
        "groups": [group.entries[0].digest[:12] for group in groups],
        "rows": lines,
    }


def metric_json(cell: Cell) -> list[JSON]:
    """[value, low, high] or, over several seeds, [mean, sd], as tables show them."""
    numbers = (cell.value, cell.sd) if cell.sd is not None else (cell.value, cell.low, cell.high)
    return [None if number is None else as_shown(number) for number in numbers]
