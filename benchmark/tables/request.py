"""From runs and a request to the text of a table, in any format; what the command line calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from oodbench.declare.derived_recipes import parse_derived
from oodbench.declare.layout_files import find_layout
from oodbench.declare.layouts import Layout
from oodbench.declare.recipes import recipe_files
from oodbench.diagnosis import StoredDiagnoses
from oodbench.errors import ConfigError
from oodbench.flow.default_recipe import default_recipe
from oodbench.flow.plan import DetectorRequest
from oodbench.flow.suites import Suite
from oodbench.leaderboards.board import Board, Place, make_board, shown_scores
from oodbench.leaderboards.named_runs import request_for
from oodbench.leaderboards.ordering import NAME, best_first, sorted_board
from oodbench.leaderboards.paired_tests import PairedScores
from oodbench.leaderboards.row_formats import COLUMNS, json_row, tidy
from oodbench.leaderboards.rows import Group, Row, overrides_of
from oodbench.leaderboards.set_means import mean_rows
from oodbench.leaderboards.significance_marks import above_trivial, as_good_as_best, verdict
from oodbench.store.store import Store
from oodbench.tables.against_paper import COLUMNS as PAPER_COLUMNS
from oodbench.tables.against_paper import compare_with_paper, paper_document, tidy_comparisons
from oodbench.tables.extra_columns import Extra, chosen_extras
from oodbench.tables.general import general_document
from oodbench.tables.images import image_notes, means_note, size_note
from oodbench.tables.layout.filled import document, fill
from oodbench.tables.layout.grid import Document
from oodbench.tables.render.formats import RENDERERS
from oodbench.tables.render.text import render_text
from oodbench.tables.sources.results import Results, results_for
from oodbench.tables.tidy import COLUMNS as LAYOUT_COLUMNS
from oodbench.tables.tidy import rows_to_csv, rows_to_json, tidy_layout

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON


@dataclass(frozen=True)
class TableRequest:
    """What table, in which format; `asked` selects scores by detector in the general layout.

    `sort` orders the rows of that layout (`oodbench.leaderboards.ordering`).

    `means` are those over OOD sets (`oodbench.leaderboards.set_means`), as more rows.
    `width`: places that a line of a printed table may take, None for all columns.
    `name` is the label of a table in the general layout: that of the suite.
    """

    layout: str = "general"
    title: str = "Leaderboard"
    scale: str = ""
    format: str = "table"
    shape: str = "tidy"
    paper: bool = False
    extras: tuple[str, ...] = ()
    all_scores: bool = False
    significance: bool = True
    width: int | None = None
    means: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sort: str = NAME
    asked: Mapping[str, DetectorRequest] = field(default_factory=dict)
    name: str = ""

    @property
    def is_tidy(self) -> bool:
        """Whether one line per number is wanted, not a printed table."""
        return self.format == "json" or (self.format == "csv" and self.shape == "tidy")


def table_text(groups: Sequence[Group], store: Store, request: TableRequest, *,
               styled: bool = False) -> str:  # fmt: skip
    """The table that a request describes; `styled` writes emphasis for a terminal.

    Raises UnknownNameError on a layout that does not exist, ConfigError where parts of the
    request do not go together.
    """
    if request.is_tidy:
        rows, columns = table_rows(groups, store, request)
        return rows_to_json(rows) if request.format == "json" else rows_to_csv(rows, columns)
    check_request(request)
    if request.layout == "general":
        return _general(groups, store, request, styled)
    layout = find_layout(request.layout)
    results = results_for(groups, layout, request.scale)
    if request.paper:
        compared = compare_with_paper(layout, results)
        drawn = paper_document(layout, compared, layout_notes(layout, results))
        return _drawn(drawn, request, styled)
    drawn = document(layout, results)
    return _drawn(replace(drawn, notes=(*drawn.notes, *layout_notes(layout, results))),
                  request, styled)  # fmt: skip


def table_rows(
    groups: Sequence[Group], store: Store, request: TableRequest
) -> tuple[list[Mapping[str, object]], tuple[str, ...]]:
    """The same table as tidy rows, one per number, and the names of their columns.

    Raises what `table_text` raises.
    """
    check_request(request)
    if request.layout == "general":
        return _general_rows(groups, store, request)
    layout = find_layout(request.layout)
    results = results_for(groups, layout, request.scale)
    if request.paper:
        return [*tidy_comparisons(layout, compare_with_paper(layout, results))], PAPER_COLUMNS
    return [*tidy_layout(layout, results)], LAYOUT_COLUMNS


def check_request(request: TableRequest) -> None:
    """ConfigError where parts of a request do not go together."""
    if request.layout != "general" and request.extras:
        raise ConfigError("--columns belongs to the general layout; add --layout general")
    if request.means and (request.layout != "general" or not request.is_tidy):
        raise ConfigError("--mean adds rows to the plain leaderboard, to CSV and to JSON alone")


def _drawn(drawn: Document, request: TableRequest, styled: bool) -> str:
    if request.format == "table":
        return render_text(drawn, styled, request.width)
    return RENDERERS[request.format](drawn)


def layout_notes(layout: Layout, results: Results) -> list[str]:
    """What a reader must know of a published table filled with our runs."""
    cells = list(fill(layout, results))
    numbers = [cell.number for cell in cells if cell.number is not None]
    wanted = sum(not isinstance(cell.found, str) for cell in cells)
    scale = f" at scale {results.scale}" if results.scale else ""
    notes = [f"Layout of {layout.source}; the numbers are ours{scale}: {len(numbers)} of {wanted}"
             " cells have a run."]  # fmt: skip
    answered = [*results.answered.values()]
    notes += [text for text in [means_note(answered) if answered else ""] if text]
    compared = [row for row in answered if row.n]
    if len({(row.n, row.members) for row in compared}) == 1:
        notes.append(f"{compared[0].n:,} images of each side.")
    elif compared:
        notes.append(size_note(compared))
    return [*notes, *results.choices, *image_notes(answered)]


def _general(groups: Sequence[Group], store: Store, request: TableRequest, styled: bool) -> str:
    board, extras, scores = _board(groups, store, request)
    marks = as_good_as_best(board, scores) if request.significance else None
    shown = [extra for extra in extras if extra.printed]
    drawn = general_document(
        board, request.title, extras=shown, marks=marks, ranked=request.sort != NAME,
        name=request.name,
    )  # fmt: skip
    return _drawn(drawn, request, styled)


def _board(
    groups: Sequence[Group], store: Store, request: TableRequest
) -> tuple[Board, Sequence[Extra], PairedScores]:
    board = sorted_board(make_board(groups, request.asked, request.all_scores), request.sort)
    scores = PairedScores(store)
    names = dict.fromkeys([*(["paper"] if request.paper else []), *request.extras])
    trivial = above_trivial(board, scores) if "trivial" in names else None
    diagnoses = StoredDiagnoses(store) if "diagnostics" in names else None
    return board, chosen_extras([*names], board, trivial, diagnoses, scores), scores


def _general_rows(
    groups: Sequence[Group], store: Store, request: TableRequest
) -> tuple[list[Mapping[str, object]], tuple[str, ...]]:
    """The fields of the plain leaderboard, what the marks say, and the columns asked for."""
    board, extras, scores = _board(groups, store, request)
    marks = as_good_as_best(board, scores) if request.significance else None
    tested = ("against_best",) if marks is not None else ()
    rows: list[Mapping[str, object]] = []
    for pair in board.pairs:
        for index, place in _in_order(board, pair, request.sort):
            more = {extra.name: extra.value(place) for extra in extras}
            if marks is not None:
                more |= {"against_best": verdict(marks, (index, pair))}
            listed = [json_row(place.row)] if request.format == "json" else tidy([place.row])
            rows += [line | more for line in listed]
    for row in means_of(groups, request):
        rows += [json_row(row)] if request.format == "json" else tidy([row])
    return rows, (*COLUMNS, *tested, *(extra.name for extra in extras))


def means_of(groups: Sequence[Group], request: TableRequest) -> list[Row]:
    """The rows of means that are asked for, the best first; none where none are."""
    if not request.means:
        return []
    shown = {
        id(g): shown_scores(g, request_for(g, request.asked), request.all_scores) for g in groups
    }
    return best_first(mean_rows(groups, request.means, shown), request.sort)


def _in_order(board: Board, pair: str, order: str) -> list[tuple[int, Place]]:
    column = board.column(pair)
    rows = best_first([place.row for _, place in column], order)
    at = {id(row): i for i, row in enumerate(rows)}
    return sorted(column, key=lambda item: at[id(item[1].row)])


def suite_groups(groups: Sequence[Group], suite: Suite) -> list[Group]:
    """The runs of a suite's detectors on its pairs, in the order of the suite.

    A suite means one configuration of each: the recipe that it names or the ID set's own, not one
    that a sweep brought in, and the newest where settings were changed; `beside` of a group counts
    the runs left out for it.
    """
    wanted = {
        (pair, *detector.partition("@")[::2]): place
        for place, (pair, detector) in enumerate(
            (pair, detector)
            for part in suite.parts
            for pair in part.pairs
            for detector in part.detectors
        )
    }
    found: dict[tuple[int, str], list[Group]] = {}
    for group in groups:
        record = group.first
        if overrides_of(record):
            continue  # a suite means the recipes' own settings
        names = str(record["pair"]), str(record["detector"])
        place = wanted.get((*names, str(record["recipe"])))
        if place is None and _of_own_recipe(record):
            place = wanted.get((*names, ""))
        if place is not None:
            found.setdefault((place, str(record["scale"])), []).append(group)
    chosen = []
    for where in sorted(found, key=lambda where: where[0]):
        newest = max(found[where], key=lambda group: group.newest)
        beside = sum(len(group.entries) for group in found[where] if group is not newest)
        chosen.append(replace(newest, mark="", beside=beside) if beside else newest)
    return chosen


def _of_own_recipe(record: Mapping[str, JSON]) -> bool:
    """Whether a run that names no recipe would take this one; also where that cannot be told."""
    name, variant = str(record["recipe"]), str(record["variant"])
    if parse_derived(name) is not None:
        return True  # it is derived where no recipe is named
    file = recipe_files().get(name)
    if file is None or variant not in file.variants:
        return True
    own = default_recipe(str(record["in_dist"]), file.shape, variant, str(record["scale"]))
    return own.name == file.name
