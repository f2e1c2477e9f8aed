"""The order of rows: the best of a metric first within a pair, or by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from oodbench.declare.layouts import METRICS
from oodbench.errors import UnknownNameError
from oodbench.leaderboards.board import Board, BoardRow
from oodbench.leaderboards.rows import Row

#: Metrics of which the highest is the best; of the others the lowest is.
RISING = ("auroc", "auprc")
NAME = "name"
ORDERS = (*METRICS, NAME)


def checked_order(order: str) -> str:
    """The order; UnknownNameError lists those that there are."""
    if order.lower() not in ORDERS:
        raise UnknownNameError("order of rows", order, ORDERS)
    return order.lower()


def best_first(rows: Sequence[Row], order: str) -> list[Row]:
    """Rows pair by pair, the best of a metric first, equal ones as they were; or as they are."""
    if order == NAME:
        return list(rows)
    place = {pair: i for i, pair in enumerate(dict.fromkeys(row.pair for row in rows))}
    return sorted(rows, key=lambda row: (place[row.pair], _badness(row, order)))


def sorted_board(board: Board, order: str) -> Board:
    """The board with its rows by their mean over pairs, those that ran on more pairs first."""
    if order == NAME:
        return board

    def key(row: BoardRow) -> tuple[int, float]:
        values = [_badness(place.row, order) for place in row.places.values()]
        return -len(values), sum(values) / len(values)

    return replace(board, rows=tuple(sorted(board.rows, key=key)))


def _badness(row: Row, metric: str) -> float:
    value = row.cells[metric].value
    return -value if metric in RISING else value
