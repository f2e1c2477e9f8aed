"""The signs of a table: which rows bear †, ?, * and !, in every format, and what a caption says."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from oodbench.canonical_json import JSON
from oodbench.leaderboards.board import Board, make_board
from oodbench.leaderboards.head_to_head import compare_runs, comparison_text
from oodbench.leaderboards.paired_tests import PairedScores
from oodbench.leaderboards.rows import group_runs, make_rows
from oodbench.leaderboards.significance_marks import (
    above_trivial,
    as_good_as_best,
    beats_trivial,
    dagger,
    verdict,
)
from oodbench.rank.metrics import equal_size, evaluate, group_members
from oodbench.reports.rows import board_rows
from oodbench.store.payload import pack_table
from oodbench.store.store import Key, Store
from oodbench.tables.after_run import caption
from oodbench.tables.general import general_document
from oodbench.tables.layout.markup import plain
from oodbench.tables.render.formats import RENDERERS
from oodbench.tables.request import TableRequest, table_rows, table_text

N = 120


def write(store: Store, detector: str, shift: float = 0.0, *, seed: int = 0, members: int = 1,
          fitted: bool = True, scores: tuple[np.ndarray, np.ndarray] | None = None,
          recorded: bool = True, **changes: JSON) -> None:  # fmt: skip
    """A run with scores of 120 images of each side, given or drawn; `members` > 1: of groups."""
    draw = np.random.default_rng([seed, *map(ord, detector)])
    common = np.random.default_rng(0).normal(size=(2, N))
    sides = scores or tuple(common + 0.6 * draw.normal(size=(2, N)) + [[0.0], [shift]])
    digests: dict[str, JSON] = {}
    firsts = []
    for name, side in zip(("id", "ood"), sides, strict=True):
        values = np.array(side, dtype=float)
        groups = group_members(N, members) if members > 1 else np.arange(N)[:, None]
        for group in groups:
            values[group] = values[group].mean()
        firsts.append(values[groups[:, 0]])
        parts: dict[str, JSON] = {
            "images": name,
            "subset": 0,
            "fits": [f"{detector} {seed}"] if fitted else [],
        }
        measure = store.write(Key("measure", parts | {"d": detector}), {})
        entry = store.write(Key("score", {"measure": measure.digest, "seed": seed}),
                            {"scores.parquet": pack_table({"score": values})})  # fmt: skip
        digests[f"{name}_scores"] = entry.digest
    found = evaluate(*firsts, resamples=20).to_json()
    if members > 1 and recorded:
        found["members"] = members
    record: dict[str, JSON] = {
        "pair": "a-b", "in_dist": "a", "ood": "b", "detector": detector, "title": detector,
        "category": "unsupervised", "cite": "", "seed": seed, "recipe": "F3" if fitted else "",
        "scale": "small" if fitted else "", "variant": "", "layers": 0, "n": N,
        "configuration": detector.ljust(64, "0"), "available": {"id": N, "ood": N}, "notes": [],
        "scores": {"score": found}, "diagnostics": {}, "cost": {"train_seconds": 10.0 + seed},
        **changes,
    }  # fmt: skip
    metrics: dict[str, JSON] = {"revision": 4, "equal_size_seed": 0}
    who: dict[str, JSON] = {"who": detector, "pair": record["pair"]}
    store.write(Key("run", {**digests, "metrics": metrics, **who}), {}, record)
    assert len(equal_size(N, N)[0]) == N


def board_of(store: Store) -> tuple[Board, dict[str, int]]:
    board = make_board(group_runs(store.entries("run")))
    return board, {row.detector: i for i, row in enumerate(board.rows)}


# ---------------------------------------------------------------------- daggers
def test_a_row_that_lies_above_the_best_on_the_shared_seed_keeps_its_mark(tmp_path: Path) -> None:
    """Best by its mean over three seeds; on the one that both have, another is far above it."""
    store = Store(tmp_path)
    for seed, shift in enumerate((0.2, 6.0, 6.0)):
        write(store, "three", shift, seed=seed)
    write(store, "lucky", 1.2)
    write(store, "weak", -1.5)
    board, at = board_of(store)
    family = as_good_as_best(board, PairedScores(store))
    assert verdict(family, (at["three"], "a-b")) == "best"
    assert verdict(family, (at["lucky"], "a-b")) == "yes"
    assert dagger(family, (at["lucky"], "a-b")) == "†"
    assert dagger(family, (at["weak"], "a-b")) == ""
    assert family.comparisons == 3


def test_what_other_seeds_could_change_is_part_of_the_test(tmp_path: Path) -> None:
    """On seed 0 alone the second lies significantly below; over seeds it does not."""
    store = Store(tmp_path)
    for seed, (one, two) in enumerate(((3.0, 1.0), (1.0, 2.2), (1.2, 1.0))):
        write(store, "one", one, seed=seed)
        write(store, "two", two, seed=seed)
    board, at = board_of(store)
    scores = PairedScores(store)
    first, second = (board.rows[at[name]].places["a-b"].group.entries[0] for name in ("one", "two"))
    assert scores.compare(first, "score", second, "score").p_value < 0.01
    family = as_good_as_best(board, scores)
    assert family.seeds == 3
    assert dagger(family, (at["two"], "a-b")) == "†"


def test_scores_of_groups_have_a_best_of_their_own_size(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, "single", 1.0)
    write(store, "also single", 0.95)
    write(store, "poor", -0.5)
    write(store, "of five", 1.0, members=5)
    write(store, "of five too", 0.8, members=5, recorded=False)
    write(store, "of ten", 1.0, members=10)
    board, at = board_of(store)
    family = as_good_as_best(board, PairedScores(store))
    assert not family.untested
    assert family.comparisons == 3 + 1
    signs = {name: dagger(family, (i, "a-b")) for name, i in at.items()}
    assert signs == {"single": "†", "also single": "†", "poor": "", "of five": "†",
                     "of five too": "†", "of ten": "†"}  # fmt: skip
    text = " ".join(general_document(board, "t", marks=family).notes)
    assert "among scores of as many images at once" in text
    assert (
        "a-b: 120 ID + 120 OOD images (equal size); 24 + 24 groups of 5 of of five, of five too;"
        " 12 + 12 groups of 10 of of ten"
    ) in text
    lines = comparison_text(compare_runs(store, "of five", "of five too", "a-b"))
    assert lines.startswith("a-b: 24 ID + 24 OOD groups of 5 images, AUROC in percent")


def test_what_was_not_tested_bears_a_sign_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, "strong", 2.0)
    write(store, "weak", -1.0)
    write(store, "other seed", 1.0, seed=7)
    board, at = board_of(store)
    family = as_good_as_best(board, PairedScores(store))
    signs = {name: dagger(family, (i, "a-b")) for name, i in at.items()}
    assert signs == {"strong": "", "weak": "", "other seed": "?"}
    text = table_text(group_runs(store.entries("run")), store, TableRequest())
    assert re.search(r"other seed\s+\d+\.\d\?\s", text)
    assert "? AUROC not tested against the best (1 rows): no seed in common." in text


def test_a_single_run_meets_other_seeds_only_where_its_key_holds_none(tmp_path: Path) -> None:
    """An estimator without a recipe is fitted with a seed all the same."""
    store = Store(tmp_path)
    for seed in range(3):
        write(store, "three", 1.0, seed=seed)
    write(store, "no recipe", 0.5, recipe="", scale="")
    write(store, "no seed", 0.5, fitted=False)
    groups = {str(g.first["detector"]): g for g in group_runs(store.entries("run"))}
    scores = PairedScores(store)
    assert len(scores.paired_seeds(groups["three"], groups["no recipe"])) == 1
    assert len(scores.paired_seeds(groups["three"], groups["no seed"])) == 3


# ---------------------------------------------------------------------- ties and constants
@pytest.fixture(scope="module")
def tied_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("tied"))
    write(store, "plain", 2.0)
    draw = np.random.default_rng(1)
    write(store, "tied", scores=(draw.integers(0, 60, N), draw.integers(5, 65, N)))
    write(store, "constant", scores=(np.ones(N), np.ones(N)))
    write(store, "mean-intensity", -2.0, fitted=False)
    return store


@pytest.mark.parametrize("format_", ["table", "latex", "markdown", "html", "csv"])
def test_ties_and_constants_are_marked_in_every_format(tied_store: Store, format_: str) -> None:
    groups = group_runs(tied_store.entries("run"))
    request = TableRequest(format=format_, shape="table", significance=False)
    text = table_text(groups, tied_store, request).replace("\\*", "*")
    marked = {"latex": r"\textsuperscript{%s}", "html": "<sup>%s</sup>"}.get(format_, "%s")
    assert re.search(r"50\.0\W{0,4}" + re.escape(marked % "!"), text)
    assert re.search(r"\d\.\d\W{0,4}" + re.escape(marked % "*"), text)
    if format_ != "csv":
        assert "many ties: fewer than half of the scores are distinct" in text
        assert "collapsed: fewer than 1" in text


def test_marks_stand_in_tidy_rows(tied_store: Store) -> None:
    groups = group_runs(tied_store.entries("run"))
    rows, _ = table_rows(groups, tied_store, TableRequest(format="csv"))
    marks = {str(row["detector"]): (row["mark"], row["against_best"]) for row in rows}
    assert marks == {"plain": ("", "best"), "tied": ("*", "no"), "constant": ("!", "no"),
                     "mean-intensity": ("", "no")}  # fmt: skip
    parsed = json.loads(table_text(groups, tied_store, TableRequest(format="json")))
    assert {row["detector"]: (row["mark"], row["against_best"]) for row in parsed} == marks


def test_a_constant_score_beats_nothing(tied_store: Store) -> None:
    board, at = board_of(tied_store)
    family = above_trivial(board, PairedScores(tied_store))
    # It stands at 50, far above a trivial detector that is reversed.
    assert verdict(family, (at["constant"], "a-b")) == "yes"
    assert beats_trivial(family, board, (at["constant"], "a-b")) == "constant"
    assert beats_trivial(family, board, (at["plain"], "a-b")) == "yes"
    request = TableRequest(format="csv", extras=("trivial",))
    rows = csv.DictReader(io.StringIO(table_text(
        group_runs(tied_store.entries("run")), tied_store, request
    )))  # fmt: skip
    assert {row["detector"]: row["beats_trivial"] for row in rows}["constant"] == "constant"
    assert {row.trivial for row in board_rows(board, None, family)} >= {"constant", "trivial"}


def test_reversed_over_seeds_is_judged_by_their_spread(tmp_path: Path) -> None:
    """A mean below 50 of seeds that lie on both sides of it is not reversed."""
    store = Store(tmp_path)
    for seed, (wide, narrow) in enumerate(((-1.6, -0.9), (0.9, -1.0), (-0.4, -0.95))):
        write(store, "wide", wide, seed=seed)
        write(store, "narrow", narrow, seed=seed)
    rows = {row.detector: row for g in group_runs(store.entries("run")) for row in make_rows(g)}
    assert rows["wide"].cells["auroc"].value < 50
    assert not rows["wide"].cells["auroc"].below(50)
    assert rows["narrow"].cells["auroc"].below(50)


# ---------------------------------------------------------------------- captions
def test_a_caption_says_the_kind_of_every_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in range(3):
        write(store, "three", 1.0, seed=seed)
    for seed in range(2):
        write(store, "two", 1.0, seed=seed)
    write(store, "one", 1.0, scale="paper")
    groups = group_runs(store.entries("run"))
    rows = [row for group in groups for row in make_rows(group)]
    text = caption(rows)
    assert "[low, high]: 95 % interval over test images, one seed" in text
    assert "±: sample standard deviation over 3 training seeds; 2 of two" in text
    assert "±" not in caption([row for row in rows if row.detector == "one"])
    notes = general_document(make_board(groups), "t").notes
    assert (
        "±: sample standard deviation over 3 training seeds; 2 of two; without it, one seed."
        in (notes)
    )
    assert "Scale of the recipes: small; paper of one." in notes


def test_cost_is_of_the_lowest_seed_whatever_was_met_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for seed in (2, 0, 1):
        write(store, "three", 1.0, seed=seed)
    entries = sorted(store.entries("run"), key=lambda entry: -int(str(entry.record["seed"])))
    for met in (entries, entries[::-1]):
        text = table_text(group_runs(met), store, TableRequest(extras=("cost",)))
        assert re.search(r"three\s.*\s10\s", text)
        assert "Cost and diagnostics: of the run with the lowest seed of a row." in text


# ---------------------------------------------------------------------- HTML
class Headers(HTMLParser):
    """The header cells of the body and head of tables, with their scope; the columns of data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []
        self.section, self.data = "", 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("thead", "tbody"):
            self.section = tag
        if tag == "th":
            self.found.append((self.section, dict(attrs).get("scope")))
        self.data += tag == "td" and self.section == "tbody"


def test_html_says_which_cells_are_headers_and_of_what(tied_store: Store) -> None:
    document = general_document(board_of(tied_store)[0], "t")
    page = Headers()
    page.feed(RENDERERS["html"](document))
    assert {scope for section, scope in page.found if section == "thead"} == {"col", "colgroup"}
    rows = [scope for section, scope in page.found if section == "tbody"]
    (grid,) = (panel.grid for panel in document.panels)
    labels = sum(bool(cell and plain(cell.text)) for line in grid.body for cell in line[:2])
    assert rows == ["row"] * labels
    assert page.data == sum(len(line) for line in grid.body) - labels


# ---------------------------------------------------------------------- mean ranks
def test_a_depth_that_no_title_shows_makes_no_other_row(tmp_path: Path) -> None:
    """IC (HVAE) stands on the recipe of each ID set, whatever its depth."""
    store = Store(tmp_path)
    for pair, layers in (("a-b", 2), ("c-d", 3)):
        for name in ("IC (HVAE)", "HVAE"):
            write(store, name, 1.0, layers=layers, pair=pair, in_dist=pair[0], ood=pair[2],
                  configuration=f"{name}{pair}".ljust(64, "0"))  # fmt: skip
    document = general_document(make_board(group_runs(store.entries("run"))), "t")
    (ranked,) = document.panels[-1].grid.body
    assert plain(ranked[0].text) == "IC (HVAE)"  # type: ignore[union-attr]
    assert "Not ranked, for they did not run on every pair: HVAE(2), HVAE(3)." in document.notes
