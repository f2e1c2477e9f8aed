"""The general layout: detectors × pairs × metrics, best bold, second underlined, marks, ranks.

One panel per ID set, its pairs side by side; a last panel with mean ranks where pairs are several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oodbench.declare.layouts import METRICS, Column
from oodbench.leaderboards.board import Board, BoardRow, Place, mean_ranks, shared_id_models
from oodbench.leaderboards.rounding import as_shown, shown
from oodbench.leaderboards.rows import category_legend, category_tag, mark_legend
from oodbench.leaderboards.significance_marks import (
    ALPHA,
    NOT_BELOW,
    UNTESTED,
    Family,
    dagger,
)
from oodbench.tables.extra_columns import Extra
from oodbench.tables.images import (
    Compared,
    compared_row,
    image_notes,
    one_seed_note,
    scale_note,
    seeds_note,
    size_note,
)
from oodbench.tables.layout.filled import head_lines
from oodbench.tables.layout.grid import BLANK, Cell, Document, Grid, Line, Panel
from oodbench.tables.layout.markup import Part, literal
from oodbench.tables.sources.numbers import RISING

HEADS = {"auroc": "AUROC↑", "auprc": "AUPRC↑", "fpr80": "FPR80↓", "fpr95": "FPR95↓"}


def general_document(
    board: Board,
    title: str,
    *,
    extras: Sequence[Extra] = (),
    marks: Family | None = None,
    ranked: bool = False,
    name: str = "",
) -> Document:
    """The whole table; `marks` are the tests against the best of every pair.

    `ranked`: rows stand by a metric, so that every one bears its detector's name.  `name` is the
    label, by default that of the pair, or "leaderboard" where pairs are several.
    """
    sets = list(dict.fromkeys(board.pairs.values()))
    panels = [
        Panel(_grid(board, [p for p, i in board.pairs.items() if i == name], extras, marks, ranked),
              literal(f"In-distribution: {name}"))
        for name in sets
    ]  # fmt: skip
    notes = _notes(board, extras, marks)
    ranks = mean_ranks(board) if len(board.pairs) > 1 else {}
    if ranks:
        panels.append(Panel(_rank_grid(board, ranks), literal("Mean rank by AUROC")))
        notes += _rank_notes(board, ranks)
    name = name or (next(iter(board.pairs)) if len(board.pairs) == 1 else "leaderboard")
    return Document(name, title, tuple(panels), tuple(notes))


def _grid(
    board: Board, pairs: Sequence[str], extras: Sequence[Extra], marks: Family | None,
    ranked: bool,
) -> Grid:  # fmt: skip
    metrics = [Column(HEADS[m], {}) for m in METRICS]
    columns = [
        Column(pair, {}, (*metrics, *(Column(extra.head, {}) for extra in extras)))
        for pair in pairs
    ]
    first, second = leaders(board, pairs)
    body: list[Line] = []
    rules, last = set(), ""
    for index, row in enumerate(board.rows):
        if not any(pair in row.places for pair in pairs):
            continue
        if last and row.label != last and not ranked:
            rules.add(len(body) - 1)
        name = row.label if ranked or row.label != last else ""
        oracle = any(place.row.category == "oracle" for place in row.places.values())
        score = f"{row.score} {category_tag('oracle')}" if oracle else row.score
        line = [Cell(literal(_tagged(row) if name else "")), Cell(literal(score))]
        for pair in pairs:
            place = row.places.get(pair)
            if place is None:
                line += [BLANK] * (len(metrics) + len(extras))
                continue
            for metric in METRICS:
                where = (index, pair, metric)
                text = literal(cell_text(board, *where))
                signs = place.row.mark + dagger(marks, (index, pair)) if metric == "auroc" else ""
                text = (*text, Part(signs, "above")) if signs else text
                line.append(Cell(text, bold=where in first, underlined=where in second))
            line += [
                Cell(literal(extra.text(place))) if name or extra.per_score else BLANK
                for extra in extras
            ]
        body.append(tuple(line))
        last = row.label
    align = "ll" + ("c" * (len(metrics) + len(extras))) * len(pairs)
    gaps = frozenset(1 + (len(metrics) + len(extras)) * i for i in range(1, len(pairs)))
    if all(rule == i for i, rule in enumerate(sorted(rules))):
        rules = set()  # one row per detector: rules would stand under every line
    return Grid(
        align, tuple(head_lines(["Detector", "Score"], columns)), tuple(body), frozenset(rules),
        gaps,
    )  # fmt: skip


def _tagged(row: BoardRow) -> str:
    """The label, with the mark of its category."""
    tag = next(iter(row.places.values())).row.tag
    return f"{row.label} {tag}".rstrip()


def cell_text(board: Board, index: int, pair: str, metric: str) -> str:
    """``84.1`` for one seed, ``84.1±0.6`` for several."""
    cell = board.rows[index].places[pair].row.cells[metric]
    return shown(cell.value) + (f"±{shown(cell.sd)}" if cell.sd is not None else "")


def leaders(
    board: Board, pairs: Sequence[str]
) -> tuple[set[tuple[int, str, str]], set[tuple[int, str, str]]]:
    """(row, pair, metric) of the best and second values of a column, as shown, oracles aside."""
    first, second = set(), set()
    for pair in pairs:
        column = board.fair(pair)
        for metric in METRICS:
            sign = 1 if metric in RISING else -1
            seen = {i: sign * as_shown(p.row.cells[metric].value) for i, p in column}
            levels = sorted(set(seen.values()), reverse=True)
            if len(seen) < 2:
                continue
            first |= {(i, pair, metric) for i, value in seen.items() if value == levels[0]}
            if len(levels) > 1:
                second |= {(i, pair, metric) for i, value in seen.items() if value == levels[1]}
    return first, second


def _rank_grid(board: Board, ranks: Mapping[int, float]) -> Grid:
    order = sorted(ranks, key=lambda i: ranks[i])
    body = [
        (
            Cell(literal(_tagged(board.rows[i]))),
            Cell(literal(board.rows[i].score)),
            Cell(literal(shown(ranks[i], 2)), bold=ranks[i] == ranks[order[0]]),
        )
        for i in order
    ]
    head = head_lines(["Detector", "Score"], [Column("Mean rank↓", {})])
    return Grid("llc", tuple(head), tuple(body))


def _notes(board: Board, extras: Sequence[Extra], marks: Family | None) -> list[str]:
    if not board.pairs:
        return ["No run of it is in the store yet."]
    notes = ["Bold: best of its column; underlined: second; ties share it. Percent."]
    compared = _compared(board)
    notes.append(size_note(compared))
    places = [place for pair in board.pairs for _, place in board.column(pair)]
    if any(row.seeds > 1 for row in compared):
        several = seeds_note([row for row in compared if row.seeds > 1])
        notes.append(f"±: sample standard deviation over {several}; without it, one seed.")
        if any(extra.of_lowest_seed for extra in extras):
            notes.append("Cost and diagnostics: of the run with the lowest seed of a row.")
    else:
        notes += [text for text in [one_seed_note(compared)] if text]
    notes += [f"{text}." for text in category_legend([place.row for place in places])]
    notes += [text for text in [scale_note(compared)] if text]
    notes += image_notes(compared)
    if any(extra.name == "auroc_paper" for extra in extras):
        notes.append(
            "95 %: interval of our AUROC over test images. Paper: the AUROC printed for the model"
            " of the recipe at scale paper; where it is printed stands in the CSV."
        )
    if any(extra.name == "year" for extra in extras):
        notes.append("Year: when the method was first public.")
    notes += _legend(places, marks)
    return notes


def _legend(places: Sequence[Place], marks: Family | None) -> list[str]:
    """What the signs beside an AUROC say, those that stand in the table."""
    notes = [f"{text}." for text in mark_legend([place.row for place in places])]
    if marks is None:
        return notes
    if marks.p_values:
        which = " among scores of as many images at once" if marks.split else ""
        seeds = (
            " over test images, and over training seeds where two rows share several (Obuchowski"
            " and Rockette)" if marks.seeds > 1 else " over test images (DeLong)"
        )  # fmt: skip
        notes.append(
            f"{NOT_BELOW} AUROC not significantly below the best of its pair{which}: paired tests"
            f"{seeds}, Holm over the {marks.comparisons} comparisons of any two rows, p ≥ {ALPHA}."
            " Of a single seed it says nothing about training again."
        )
    if marks.untested:
        reasons = dict.fromkeys(marks.untested.values())
        notes.append(
            f"{UNTESTED} AUROC not tested against the best ({len(marks.untested)} rows):"
            f" {next(iter(reasons))}{'' if len(reasons) == 1 else '; and other reasons'}."
        )
    return notes


def _compared(board: Board) -> list[Compared]:
    return [
        compared_row(place.row, board.rows[index].label)
        for pair in board.pairs
        for index, place in board.column(pair)
    ]


def _rank_notes(board: Board, ranks: Mapping[int, float]) -> list[str]:
    notes = [
        f"Mean rank over {len(board.pairs)} pairs, of the rows that ran on all of them, among"
        " themselves."
    ]
    fair = {i for pair in board.pairs for i, _ in board.fair(pair)}
    dropped = [
        f"{board.rows[i].label} {board.rows[i].score}".rstrip() for i in sorted(fair - {*ranks})
    ]
    if dropped:
        notes.append(f"Not ranked, for they did not run on every pair: {', '.join(dropped)}.")
    groups = shared_id_models(board.pairs)
    if groups:
        named = "; ".join(", ".join(names) for names in groups)
        notes.append(
            f"Warning: pairs that share an ID model are not independent ({named}); mean ranks over"
            " them are a summary, not a test."
        )
    return notes
