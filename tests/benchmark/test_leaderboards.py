"""Tables as views of stored runs: what is averaged, what is kept apart, what is printed."""

from __future__ import annotations

import csv
import io
import json
import statistics
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from oodbench.canonical_json import JSON
from oodbench.leaderboards.row_formats import tidy, to_csv, to_json
from oodbench.leaderboards.rows import group_runs, left_out_notes, make_rows
from oodbench.rank.metrics import evaluate
from oodbench.store.store import Entry, Key, Store
from oodbench.tables.after_run import caption, score_table

SIDES = ("id_scores", "ood_scores")


def run(
    store: Store, seed: int, configuration: str = "a" * 64, revision: int = 1, **changes: JSON
) -> Entry:
    generator = np.random.default_rng(seed)
    scores: dict[str, JSON] = {
        name: evaluate(generator.normal(0, 1, 80), generator.normal(shift, 1, 80),
                       resamples=50).to_json()
        for name, shift in (("L", -1.0), ("LLR_ada", 2.0))
    }  # fmt: skip
    record: dict[str, JSON] = {
        "pair": "a-b", "in_dist": "a", "ood": "b", "detector": "vanilla-hvae", "title": "HVAE",
        "category": "unsupervised", "cite": "", "seed": seed, "configuration": configuration,
        "recipe": "F3", "scale": "small", "variant": "vanilla", "layers": 3, "n": 80,
        "notes": [], "scores": scores, "diagnostics": {}, "cost": {}, **changes,
    }  # fmt: skip
    parts: dict[str, JSON] = dict.fromkeys(SIDES, f"{seed} {record['recipe']}")
    metrics: dict[str, JSON] = {"revision": revision, "equal_size_seed": 0}
    key = Key("run", {**parts, "metrics": metrics, "configuration": configuration, **changes})
    return store.write(key, {}, record)


def test_seeds_are_averaged_with_the_sample_deviation(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [run(store, seed) for seed in range(3)]
    (group,) = group_runs([*entries, entries[0]])  # a run met twice counts once
    (row,) = make_rows(group, ["LLR_ada"])
    values = [100 * e.record["scores"]["LLR_ada"]["auroc"]["value"] for e in entries]  # type: ignore[index, call-overload]
    cell = row.cells["auroc"]
    assert (cell.value, cell.sd) == pytest.approx(
        (statistics.fmean(values), statistics.stdev(values))
    )
    assert (cell.low, cell.high) == (None, None)
    assert row.seeds == (0, 1, 2)
    assert "±: sample standard deviation over 3 training seeds" in caption([row])
    assert "[low" not in caption([row])


def test_runs_of_another_configuration_are_never_averaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    other = {"id_scores": "other"}
    groups = group_runs(
        [run(store, 0), run(store, 0, "b" * 64, **other), run(store, 1, "b" * 64, **other)]
    )
    assert [len(group.entries) for group in groups] == [1, 2]
    names = [make_rows(group)[0].detector for group in groups]
    assert names == ["HVAE(3) #aaaa", "HVAE(3) #bbbb"]


def test_a_newer_revision_answers_for_an_older_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    changed = {"detector": {"revision": 1}, "model": {"revision": 1}}
    old = [run(store, seed) for seed in (0, 1)]
    ranked = run(store, 0, "b" * 64, revision=2)
    measured = run(store, 0, "c" * 64, revision=2, source=changed, id_scores="others")
    for entries in ([*old, ranked], [ranked, *old]):
        groups = group_runs(entries)
        found = [entry for group in groups for entry in group.entries]
        assert {entry.digest for entry in found} == {old[1].digest, ranked.digest}
        assert left_out_notes(groups) == ["1 run by older revisions left out: 'vanilla-hvae'"]
    (group,) = group_runs([measured, ranked, old[0]])
    assert (group.entries, group.mark, group.older) == ([measured], "", 2)
    assert left_out_notes(group_runs(old)) == []


def test_settings_that_compute_something_else_now_answer_for_what_they_computed(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    now = {"detector": {"revision": 1}, "model": {"revision": 1, "settings_revision": 1}}
    before = {"detector": {"revision": 1}, "model": {"revision": 1}}
    old = run(store, 0, source=before)
    mended = run(store, 0, "b" * 64, source=now, id_scores="others")
    (group,) = group_runs([mended, old])
    assert (group.entries, group.mark, group.older) == ([mended], "", 1)


def test_runs_on_newer_random_numbers_answer_for_older_ones(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = run(store, 0)
    new = run(store, 0, "b" * 64, id_scores="others", noise=2)
    (group,) = group_runs([new, old])
    assert (group.entries, group.mark, group.older) == ([new], "", 1)


def test_a_run_that_compared_with_as_many_images_as_were_tested_is_answered_for(
    tmp_path: Path,
) -> None:
    store, available = Store(tmp_path), {"id": 500, "ood": 500}
    old = [run(store, seed) for seed in (0, 1)]
    new = run(store, 0, "b" * 64, available=available, reference=1297)
    capped = run(store, 0, "c" * 64, available=available, reference=300)
    for entries in ([*old, new, capped], [capped, new, *old]):
        groups = group_runs(entries)
        found = {entry.digest for group in groups for entry in group.entries}
        assert found == {old[1].digest, new.digest, capped.digest}
        assert left_out_notes(groups) == ["1 run by older revisions left out: 'vanilla-hvae'"]
    assert len(group_runs([old[0], capped])) == 2


def test_recipes_of_one_detector_are_told_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entries = [run(store, 0), run(store, 0, "b" * 64, recipe="C3")]
    rows = [row for group in group_runs(entries) for row in make_rows(group)]
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(score_table("a-b", rows, ""))
    names = [
        line.split("│")[1].strip() for line in console.export_text().splitlines() if "│" in line
    ]
    assert names == ["HVAE(3) F3-small", "", "HVAE(3) C3-small", ""]


def test_one_seed_shows_its_interval_and_the_best_is_bold(tmp_path: Path) -> None:
    (group,) = group_runs([run(Store(tmp_path), 0)])
    rows = make_rows(group)
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(score_table("a-b", rows, caption(rows)))
    text = console.export_text(clear=False)
    for row in rows:
        cell = row.cells["auroc"]
        assert f"{cell.value:.1f} [{cell.low:.1f}, {cell.high:.1f}]" in text
    styled = console.export_text(styles=True)
    best = max(row.cells["auroc"].value for row in rows)
    assert f"\x1b[1m{best:.1f} [" in styled
    assert "80 ID + 80 OOD images (equal size); [low, high]: 95 % interval" in text


def test_csv_and_json_hold_the_same_numbers(tmp_path: Path) -> None:
    (group,) = group_runs([run(Store(tmp_path), 0)])
    rows = make_rows(group)
    lines = list(csv.DictReader(io.StringIO(to_csv(rows))))
    parsed = json.loads(to_json(rows))
    assert len(lines) == 4 * len(parsed) == 8
    for line in lines:
        (match,) = (r for r in parsed if r["score"] == line["score"])
        for name in ("value", "low", "high"):
            assert float(line[name]) == pytest.approx(match["metrics"][line["metric"]][name],
                                                      rel=1e-14)  # fmt: skip
        assert line["sd"] == ""


def test_rows_say_by_what_names_recipe_scale_and_seed_they_differ(tmp_path: Path) -> None:
    """Two detectors of one title at two scales: no selection by columns throws two together."""
    store = Store(tmp_path)
    entries = [
        run(store, seed, f"{name}{scale}", detector=name, title="MAF", scale=scale)
        for name, scale in product(("mine", "yours"), ("small", "smoke"))
        for seed in (0, 3)
    ]
    groups = group_runs(entries)
    rows = [row for group in groups for row in make_rows(group)]
    lines = list(csv.DictReader(io.StringIO(to_csv(rows))))
    names = ("name", "recipe", "scale", "score", "metric", "pair")
    assert len({tuple(line[name] for name in names) for line in lines}) == len(lines)
    assert {line["detector"].split("(")[0] for line in lines} == {"MAF"}
    found = {(line["name"], line["recipe"], line["scale"], line["seed"]) for line in lines}
    assert found == {(n, "F3", s, "0 3") for n in ("mine", "yours") for s in ("small", "smoke")}
    (one,) = group_runs([run(Store(tmp_path / "one"), 3)])
    assert tidy(make_rows(one))[0]["seed"] == 3
    assert {(row["name"], row["scale"]) for row in json.loads(to_json(rows))} == {
        (n, s) for n in ("mine", "yours") for s in ("small", "smoke")
    }


def test_csv_and_json_say_what_stands_under_the_tables(tmp_path: Path) -> None:
    said = ["digits: 40 of 80 images", "F3: chosen on photos"]
    copies = "2 of 80 test images are copies"
    (group,) = group_runs([run(Store(tmp_path), 0, notes=said, duplicates=[copies])])
    rows = make_rows(group)
    for line in csv.DictReader(io.StringIO(to_csv(rows))):
        assert line["notes"] == "; ".join([*said, copies])
    assert [row["notes"] for row in json.loads(to_json(rows))] == [[*said, copies]] * len(rows)
