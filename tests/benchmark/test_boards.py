"""The general table, paired tests from stored scores, and ours against the paper's."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from oodbench.canonical_json import JSON
from oodbench.declare.layout_files import find_layout
from oodbench.declare.layouts import Column, Row
from oodbench.errors import OodbenchError, StoreError
from oodbench.flow.resolved_job import subset_indices
from oodbench.leaderboards.board import TRIVIAL, make_board, mean_ranks
from oodbench.leaderboards.head_to_head import compare_runs, comparison_json, comparison_text
from oodbench.leaderboards.paired_tests import PairedScores, seed_difference
from oodbench.leaderboards.rows import Group, group_runs, make_rows
from oodbench.leaderboards.significance_marks import above_trivial, as_good_as_best, verdict
from oodbench.rank.metrics import auroc, equal_size, evaluate
from oodbench.rank.seeds_and_images import difference_of_areas
from oodbench.rank.significance import delong, holm
from oodbench.store.payload import pack_table, unpack_table
from oodbench.store.store import Key, Store
from oodbench.tables.after_run import score_table
from oodbench.tables.against_paper import Comparison, compare_with_paper, tidy_comparisons
from oodbench.tables.extra_columns import parse_columns
from oodbench.tables.general import general_document
from oodbench.tables.layout.filled import Filled
from oodbench.tables.layout.markup import plain
from oodbench.tables.render.console import Boxed
from oodbench.tables.request import TableRequest, table_rows, table_text
from oodbench.tables.sources.numbers import Number
from oodbench.tables.sources.reported_scores import Papers
from oodbench.tables.sources.results import results_for

SHIFTS = {"strong": 1.5, "weak": 1.0, "useless": 0.0}
PAIRS = (("a-b", "a", "b"), ("a-c", "a", "c"))


def write_run(store: Store, detector: str, pair: tuple[str, str, str], seed: int = 0,
              recipe: str = "F3", images: str = "", subset: int = 0,
              **changes: JSON) -> None:  # fmt: skip
    """A run with real scores of 300 ID and 200 OOD images, or of subsets of both sets.

    The ID side is shared by the pairs.
    """
    name, in_dist, ood = pair
    scores: dict[str, dict[str, np.ndarray]] = {}
    digests: dict[str, JSON] = {}
    for side, dataset, count in (("id", in_dist, 300), ("ood", ood, 200)):
        common = np.random.default_rng(sum(map(ord, dataset))).normal(0, 1, count)
        own = np.random.default_rng([seed, len(detector), sum(map(ord, dataset))])
        shift = SHIFTS.get(detector, 0.5) if side == "ood" else 0.0
        values = {
            "L": common + own.normal(0, 0.3, count) + shift,
            "LLR_ada": common + own.normal(0, 0.5, count) + shift / 2,
        }
        index = subset_indices(count, subset) if subset else np.arange(count)
        values = {score: column[index] for score, column in values.items()}
        parts: dict[str, JSON] = {"d": detector, "images": f"{dataset}{images}",
                                  "r": recipe, "subset": subset}  # fmt: skip
        parts |= {} if detector in TRIVIAL else {"fits": [f"{detector} {recipe} {seed}"]}
        measure = store.write(
            Key("measure", parts), {"statistics.parquet": pack_table({"index": index})}
        )
        entry = store.write(
            Key("score", {"measure": measure.digest}), {"scores.parquet": pack_table(values)}
        )
        scores[side], digests[f"{side}_scores"] = values, entry.digest
    id_index, ood_index = equal_size(*(len(scores[side]["L"]) for side in ("id", "ood")))
    results: dict[str, JSON] = {
        score: evaluate(scores["id"][score][id_index], scores["ood"][score][ood_index],
                        resamples=20).to_json()
        for score in ("L", "LLR_ada")
    }  # fmt: skip
    record: dict[str, JSON] = {
        "pair": name, "in_dist": in_dist, "ood": ood, "detector": detector, "title": detector,
        "category": "unsupervised", "cite": "", "seed": seed, "recipe": recipe,
        "configuration": f"{detector}{recipe}{name}".ljust(64, "0"),
        "scale": "small" if recipe else "", "variant": "", "layers": 0, "n": len(id_index),
        "notes": [], "scores": results, "diagnostics": {},
        "cost": {"train_seconds": 3.0, "passes": "f"}, **changes,
    }  # fmt: skip
    parts = {**digests, "metrics": {"revision": 1, "equal_size_seed": 0},
                              "who": detector, "pair": name, "recipe": recipe}  # fmt: skip
    store.write(Key("run", parts), {}, record)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("boards"))
    for pair in PAIRS:
        for detector in SHIFTS:
            for seed in range(3 if detector == "strong" else 1):
                write_run(store, detector, pair, seed)
        write_run(store, "mean-intensity", pair, recipe="")
    return store


@pytest.fixture(scope="module")
def groups(store: Store) -> list[Group]:
    found = group_runs(store.entries("run"))
    return sorted(found, key=lambda g: (str(g.first["pair"]), str(g.first["detector"])))


def one(groups: list[Group], detector: str, pair: str = "a-b") -> Group:
    (found,) = (g for g in groups if (g.first["detector"], g.first["pair"]) == (detector, pair))
    return found


# ---------------------------------------------------------------------- paired tests
def test_stored_scores_give_the_recorded_auroc_and_delongs_difference(
    store: Store, groups: list[Group]
) -> None:
    scores = PairedScores(store)
    strong, weak = (one(groups, name).entries[0] for name in ("strong", "weak"))
    result = scores.compare(strong, "L", weak, "L")
    record: Mapping[str, JSON] = weak.record["scores"]["L"]  # type: ignore[index, call-overload, assignment]
    assert result.auc_b == pytest.approx(record["auroc"]["value"])  # type: ignore[index, call-overload]
    id_a, ood_a = scores.sides(strong, "L")
    id_b, ood_b = scores.sides(weak, "L")
    assert result.difference == pytest.approx(auroc(id_a, ood_a) - auroc(id_b, ood_b))
    # The variance of a difference of positively correlated AUROCs is below the sum of variances.
    unpaired = delong(id_a, ood_a)[1] + delong(id_b, ood_b)[1]
    assert 0 < result.standard_error**2 < 0.7 * unpaired
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        i, j = generator.integers(200, size=(2, 200))
        draws.append(auroc(id_a[i], ood_a[j]) - auroc(id_b[i], ood_b[j]))
    assert np.std(draws) == pytest.approx(result.standard_error, rel=0.15)


def test_other_images_cannot_be_compared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_run(store, "strong", PAIRS[0])
    write_run(store, "weak", PAIRS[0], images=" at another size")
    with pytest.raises(StoreError, match="did not see the same images"):
        compare_runs(store, "strong:L", "weak:L", "a-b")


def test_subsets_are_compared_on_the_images_that_both_measured(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_run(store, "strong", PAIRS[0])
    write_run(store, "weak", PAIRS[0], subset=60)
    write_run(store, "useless", PAIRS[0], subset=50)
    strong, weak, useless = (
        next(run for run in store.entries("run") if run.record["detector"] == name)
        for name in ("strong", "weak", "useless")
    )
    scores = PairedScores(store)
    # All 300 + 200 images of `strong` in the order of the sets, whatever the equal-size rule drew.
    tables = [store.get("score", str(strong.parts[f"{s}_scores"])) for s in ("id", "ood")]
    whole = [unpack_table(entry.read("scores.parquet"))["L"] for entry in tables if entry]
    drawn = set(equal_size(300, 200)[0].tolist())
    kept = [[row for row in subset_indices(300, 60) if row in drawn], subset_indices(200, 60)]
    result = scores.compare(strong, "L", weak, "L")
    assert (result.n_id, result.n_ood) == (len(kept[0]), 60)
    assert 30 < result.n_id < 60
    assert result.auc_a == pytest.approx(auroc(whole[0][kept[0]], whole[1][kept[1]]))
    other = scores.compare(weak, "L", useless, "L")
    common = [
        len({*subset_indices(count, 60).tolist()} & {*subset_indices(count, 50).tolist()})
        for count in (300, 200)
    ]
    assert [other.n_id, other.n_ood] == common == [50, 50]  # the smaller is part of the larger
    text = comparison_text(compare_runs(store, "strong:L", "weak:L", "a-b"))
    assert text.startswith(
        f"a-b: {result.n_id} ID + 60 OOD images that both measured (of A's 200 + 200 and B's 60 +"
        " 60), AUROC in percent"
    )
    # What made it necessary: a board with a subset on it is tested whole.
    board = make_board(group_runs(store.entries("run")))
    family = as_good_as_best(board, scores)
    assert len(family.p_values) == len(board.rows) - 1
    assert not family.untested


def test_too_few_images_in_common_are_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_run(store, "strong", PAIRS[0], subset=3)
    write_run(store, "weak", PAIRS[0], subset=1)
    with pytest.raises(StoreError, match=r"measured subsets with . images of a side in common"):
        compare_runs(store, "strong:L", "weak:L", "a-b")


def test_scores_that_are_gone_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("strong", "weak"):
        write_run(store, name, PAIRS[0])
    for entry in list(store.entries("score")):
        store.set_aside(entry.path, "gone")
    with pytest.raises(StoreError, match=r"score .* any more; run the detector in a new"):
        compare_runs(store, "strong:L", "weak:L", "a-b")
    board = make_board(group_runs(store.entries("run")))
    family = as_good_as_best(board, PairedScores(store))
    assert not family.p_values
    assert len(family.untested) == 3


def test_seeds_are_paired_and_a_run_without_a_seed_in_its_key_meets_every_seed(
    store: Store, groups: list[Group]
) -> None:
    scores = PairedScores(store)
    strong, weak = one(groups, "strong"), one(groups, "weak")
    assert [seed for seed, _, _ in scores.paired_seeds(strong, weak)] == [0]
    trivial = one(groups, "mean-intensity")
    met = scores.paired_seeds(strong, trivial)
    assert [seed for seed, _, _ in met] == [0, 1, 2]
    assert {run.digest for _, _, run in met} == {trivial.entries[0].digest}


def test_difference_over_seeds_is_students_paired_t() -> None:
    a, b = [0.81, 0.84, 0.79, 0.86], [0.80, 0.80, 0.80, 0.81]
    found = seed_difference([x - y for x, y in zip(a, b, strict=True)])
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_compare_prints_both_sources_of_variance(store: Store) -> None:
    found = compare_runs(store, "strong:L", "mean-intensity:L", "a-b")
    text = comparison_text(found)
    assert "Variance of test images (paired DeLong" in text
    assert "Variance of training seeds (paired t" in text
    result = found.by_seed[1]
    assert f"seed 1: A {100 * result.auc_a:.2f}, B {100 * result.auc_b:.2f}" in text
    assert found.p_adjusted == holm([r.p_value for r in found.by_seed.values()])
    parsed = json.loads(json.dumps(comparison_json(found)))
    assert [row["seed"] for row in parsed["test_images"]] == [0, 1, 2]
    assert comparison_json(compare_runs(store, "weak:L", "weak:llrada", "a-b"))[
        "training_seeds"
    ] is None  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "pair", "message"),
    [
        ("strong:L", "week:L", "a-b", "no run of 'week' on a-b; ran there: weak"),
        ("strong:LLR", "weak:L", "a-b", "unknown score of strong 'LLR'; nearest: L"),
        ("strong", "weak:L", "a-b", "strong has several scores; name one of L, LLR_ada"),
        ("strong:L", "weak:L", "a-bb", "no run of pair 'a-bb'.*stored: a-b"),
        ("strong@F5:L", "weak:L", "a-b", "no run of 'strong@F5'"),
    ],
)
def test_compare_names_what_is_wrong(store: Store, a: str, b: str, pair: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        compare_runs(store, a, b, pair)


# ---------------------------------------------------------------------- the general table
def test_best_second_and_ties(store: Store, groups: list[Group]) -> None:
    board = make_board(groups)
    grid = general_document(board, "t").panels[0].grid
    for column in range(2, grid.width):
        cells = [line[column] for line in grid.body]
        values = {id(c): float(plain(c.text).split("±")[0]) for c in cells if c}
        falling = column % 4 in (0, 1)  # FPR80, FPR95
        levels = sorted(set(values.values()), reverse=not falling)
        for cell in cells:
            assert cell is not None
            assert cell.bold == (values[id(cell)] == levels[0])
            assert cell.underlined == (values[id(cell)] == levels[1])


def test_mean_ranks_are_those_of_scipy(groups: list[Group]) -> None:
    board = make_board(groups)
    values = np.array([[row.places[p].row.cells["auroc"].value for p in board.pairs]
                       for row in board.rows])  # fmt: skip
    expected = stats.rankdata(-values, axis=0).mean(axis=1)
    assert list(mean_ranks(board).values()) == pytest.approx(list(expected))
    notes = " ".join(general_document(board, "t").notes)
    assert "pairs that share an ID model are not independent (a-b, a-c)" in notes


def plain_table(table: Boxed) -> str:
    console = Console(width=150, file=io.StringIO())
    with console.capture() as shown:
        console.print(table)
    return shown.get()


def test_an_oracle_choice_is_marked_and_never_the_best(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for pair in PAIRS:
        for detector, category in (("strong", "ensemble"), ("weak", "unsupervised")):
            write_run(store, detector, pair, category=category)
            entry = list(store.entries("run"))[-1]
            scores = dict(entry.record["scores"])  # type: ignore[call-overload]
            best = {
                **scores["L"],
                "oracle": "L",
                "auroc": dict.fromkeys(("value", "low", "high"), 1.0),
            }
            write_run(store, detector, pair, recipe="best", category=category,
                      scores={**scores, "best of both": best})  # fmt: skip
    runs = [e for e in store.entries("run") if e.record["recipe"] == "best"]
    groups = group_runs(sorted(runs, key=lambda entry: str(entry.record["detector"])))
    board = make_board(groups)
    lines = general_document(board, "t", marks=as_good_as_best(board, PairedScores(store)))
    shown = [[(plain(c.text), c.bold) for c in line] for line in lines.panels[0].grid.body]
    assert [line[0][0] for line in shown] == ["strong [ensemble]", "", "", "weak", "", ""]
    for line in shown:
        if line[1][0].startswith("best of both"):
            assert line[1][0] == "best of both [oracle]"
            assert line[2] == ("100.0", False)
    assert any(line[2][1] for line in shown)
    assert {board.rows[i].score for i in mean_ranks(board)} == {"L", "LLR_ada"}
    table = plain_table(score_table("p", [r for g in groups[::2] for r in make_rows(g)], ""))
    assert "strong [ensemble]" in table
    assert "best of both [oracle]" in table
    assert "[oracle]: chosen with the OOD results known" in " ".join(table.split())


def test_marks_are_holm_over_the_whole_table(store: Store, groups: list[Group]) -> None:
    board = make_board(groups)
    scores = PairedScores(store)
    family = as_good_as_best(board, scores)
    assert len(family.p_values) == 2 * (len(board.rows) - 1)
    assert family.comparisons == 2 * math.comb(len(board.rows), 2)
    raw = {}
    for pair in board.pairs:
        column = board.column(pair)
        best = max(column, key=lambda item: item[1].row.cells["auroc"].value)[1]
        for index, place in column:
            if place is not best:
                shared = scores.paired_seeds(place.group, best.group)
                found = difference_of_areas(
                    [scores.matched(a, place.score, b, best.score) for _, a, b in shared]
                )
                raw[(index, pair)] = found.p_value
    adjusted = holm(list(raw.values()), family.comparisons)
    assert family.p_values == pytest.approx(dict(zip(raw, adjusted, strict=True)))
    text = " ".join(general_document(board, "t", marks=family).notes)
    assert f"Holm over the {family.comparisons} comparisons of any two rows" in text
    assert "over training seeds where two rows share several" in text


def test_the_trivial_detectors_are_a_yardstick(store: Store, groups: list[Group]) -> None:
    board = make_board(groups, all_scores=True)
    family = above_trivial(board, PairedScores(store))
    index = {(row.detector, row.score): i for i, row in enumerate(board.rows)}
    assert verdict(family, (index["strong", "L"], "a-b")) == "yes"
    assert verdict(family, (index["useless", "L"], "a-b")) == "no"
    text = table_text(groups, store, TableRequest(format="csv", extras=("cost", "trivial")))
    lines = list(csv.DictReader(io.StringIO(text)))
    found = {(r["detector"], r["score"]): r for r in lines if r["pair"] == "a-b"}
    assert found["strong", "L"]["beats_trivial"] == "yes"
    assert found["mean-intensity", "L"]["beats_trivial"] == "trivial"
    assert float(found["weak", "L"]["train_seconds"]) == 3.0
    with pytest.raises(OodbenchError, match="unknown columns 'costs'; nearest: cost"):
        parse_columns("costs")


def test_the_pair_the_other_way_round(tmp_path: Path) -> None:
    store, back = Store(tmp_path), ("b-a", "b", "a")
    for pair in (PAIRS[0], back):
        write_run(store, "strong", pair)
    write_run(store, "weak", PAIRS[0])
    groups = group_runs(store.entries("run"))
    text = table_text(groups, store, TableRequest(format="csv", extras=("reverse",)))
    lines = list(csv.DictReader(io.StringIO(text)))
    auroc = {(r["detector"], r["pair"]): r for r in lines if r["metric"] == "auroc"}
    there, home = auroc["strong", "a-b"], auroc["strong", "b-a"]
    assert float(there["auroc_reverse"]) == float(home["value"])
    assert float(home["auroc_reverse"]) == float(there["value"])
    assert auroc["weak", "a-b"]["auroc_reverse"] == ""


def test_the_other_way_round_is_of_the_same_recipe_and_depth(tmp_path: Path) -> None:
    store, back = Store(tmp_path), ("b-a", "b", "a")
    for recipe, layers in (("F3", 3), ("F3-dense", 3), ("F5", 5)):
        write_run(store, "strong", PAIRS[0], recipe=recipe, layers=layers)
        if recipe != "F5":
            write_run(store, "strong", back, recipe=recipe, layers=layers)
    groups = group_runs(store.entries("run"))
    text = table_text(groups, store, TableRequest(format="csv", extras=("reverse",)))
    lines = [r for r in csv.DictReader(io.StringIO(text)) if r["metric"] == "auroc"]
    value = {(r["pair"], r["recipe"], r["score"]): r["value"] for r in lines}
    for line in lines:
        other = {"a-b": "b-a", "b-a": "a-b"}[line["pair"]]
        assert line["auroc_reverse"] == value.get((other, line["recipe"], line["score"]), "")


def test_two_recipes_on_one_pair_are_two_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_run(store, "strong", PAIRS[0])
    write_run(store, "strong", PAIRS[0], recipe="F5")
    write_run(store, "strong", PAIRS[1])
    board = make_board(group_runs(store.entries("run")))
    assert {row.label for row in board.rows} == {"strong F3-small", "strong F5-small"}
    assert sorted(len(row.places) for row in board.rows) == [1, 1, 2, 2]


# ---------------------------------------------------------------------- against the paper
def filled(number: Number, **query: str) -> Filled:
    return Filled("", Row("numbers", "x"), Column("c", query), query, number)


def test_one_seed_is_judged_by_its_test_images_several_by_the_next_training() -> None:
    one_seed = Comparison(filled(Number(90.0, 89.0, 91.0), metric="auroc"), Number(90.9))
    assert one_seed.inside is True
    assert one_seed.difference == pytest.approx(-0.9)
    assert one_seed.interval is not None
    assert one_seed.interval.of == "test images"
    values = [88.0, 91.0, 90.0]
    many = Number(float(np.mean(values)), sd=float(np.std(values, ddof=1)), seeds=3)
    interval = Comparison(filled(many, metric="auroc"), Number(96.0)).interval
    half = stats.t(2).ppf(0.975) * np.std(values, ddof=1) * math.sqrt(1 + 1 / 3)
    assert interval is not None
    assert interval.low == pytest.approx(np.mean(values) - half)
    assert interval.of == "training seeds"
    bits = Comparison(filled(Number(3.4), diagnostic="bits_per_dim"), Number(2.67))
    assert (bits.interval, bits.inside) == (None, None)


def test_rows_beside_the_paper_say_what_they_are_handed_and_cost(made_up_store: Store) -> None:
    layout = find_layout("table1")
    groups = group_runs(made_up_store.entries("run"))
    rows = compare_with_paper(layout, results_for(groups, layout))
    declared = {str(row.ours.query["detector"]): row.declared for row in rows}
    assert declared["odin"] == ("labels", "3 f + b")
    assert declared["outlier-exposure"] == ("prior", "f")
    assert declared["waic-glow"][0] == "ensemble"
    assert declared["informative-hvae"] == ("unsupervised", "e + L·g")
    assert declared["idecode"] == ("", "")
    listed = tidy_comparisons(layout, rows)
    assert [(row["category"], row["passes"]) for row in listed] == [row.declared for row in rows]


def test_the_general_layout_shows_intervals_and_the_papers_values(made_up_store: Store) -> None:
    groups = group_runs(made_up_store.entries("run"))
    rows, columns = table_rows(groups, made_up_store, TableRequest(paper=True, format="csv"))
    assert columns[-3:] == ("auroc_interval", "auroc_paper", "paper_source")
    place = ("pair", "detector", "recipe", "score", "metric")
    found = {tuple(str(row[name]) for name in place): row for row in rows}
    pair = "fashionmnist-mnist"
    shown = {
        (detector, recipe, score): (row["auroc_paper"], row["paper_source"])
        for (on, detector, recipe, score, metric), row in found.items()
        if (on, metric) == (pair, "auroc")
    }
    source = "Li et al., NeurIPS 2022, Table"
    # Typed from the paper.
    assert shown["INFORMATIVE-HVAE(3)", "F3", "LLR>2"] == (97.4, f"{source} 2")
    assert shown["INFORMATIVE-HVAE(5)", "F5", "LLR_ada"] == (98.0, f"{source} 1")
    assert shown["GLOW", "", "L"] == (6.29, f"{source} 8")
    assert shown["VANILLA-HVAE(5)", "F5", "L"] == (15.3, f"{source} 6")
    text = table_text(groups, made_up_store, TableRequest(paper=True, significance=False))
    assert "Paper: the AUROC printed for the model of the recipe at scale paper" in text


def test_a_score_that_no_table_names_is_the_only_one(made_up_store: Store) -> None:
    groups = group_runs(made_up_store.entries("run"))
    papers = Papers()
    (odin,) = (
        replace(g, first={**g.first, "detector": "odin", "scores": {"S": {}}, "score_order": ["S"]})
        for g in groups
        if (g.first["detector"], g.first["pair"]) == ("mahalanobis", "fashionmnist-mnist")
    )
    printed = papers.auroc(odin, "S")
    assert printed is not None
    assert printed.number.value == 75.2
    two = replace(odin, first={**odin.first, "score_order": ["S", "T"]})
    assert papers.auroc(two, "S") is None


def test_cells_not_run_show_the_paper_alone(made_up_store: Store) -> None:
    layout = find_layout("table6")
    groups = group_runs(made_up_store.entries("run"))
    rows = compare_with_paper(layout, results_for(groups, layout))
    assert len(rows) == 45
    for row in rows:
        if row.ours.query["detector"] == "oversmooth-hvae":
            assert row.ours.number is None
            assert (row.difference, row.inside) == (None, None)
        assert row.paper is not None
    with pytest.raises(OodbenchError, match="--columns belongs to the general layout"):
        table_text(groups, made_up_store, TableRequest(layout="table6", extras=("cost",)))
