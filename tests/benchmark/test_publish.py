"""`oodbench publish`: what it writes is what the store holds, and comes back from the archive."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from archive_files import members, pack, resealed
from in_process import invoke
from sklearn.metrics import roc_auc_score

from oodbench.share.transfer import import_store
from oodbench.store.payload import unpack_table
from oodbench.store.store import Key, Store

SUITE = """
name: mine
title: Two of mine
scale: smoke
pairs: [china-flower]
detectors: [lr-bc, pixel-variance]
"""
FILES = ("mine.txt", "mine.csv", "mine.tex", "mine-costs.txt", "mine-costs.csv", "mine-models.json",
         "mine-runs.tar")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project's suite, its runs in `results/store`, published to `out`."""
    folder = tmp_path_factory.mktemp("publish")
    suites = folder / "oodbench-project" / "suites"
    suites.mkdir(parents=True)
    (suites / "mine.yaml").write_text(SUITE)
    assert invoke(folder, "run", "--suite", "mine", "--quiet")[0] == 0
    status, out, err = invoke(folder, "publish", "out", "--suite", "mine")
    assert status == 0
    assert re.search("note: fits: 1, [0-9,]+ s, measurements: 4, [0-9,]+ s", err)
    assert [Path(line.split(": ")[0]).name for line in out.splitlines()] == list(FILES)
    return folder


def test_the_tables_are_those_of_the_leaderboard(place: Path) -> None:
    assert sorted(path.name for path in (place / "out").iterdir()) == sorted(FILES)
    asked = ("leaderboard", "--suite", "mine", "--compare", "paper")
    for name, more in (("mine.txt", ()), ("mine.csv", ("--format", "csv")),
                       ("mine.tex", ("--format", "latex"))):  # fmt: skip
        assert (place / "out" / name).read_text() == invoke(place, *asked, *more)[1]
    costs = list(csv.DictReader(io.StringIO((place / "out" / "mine-costs.csv").read_text())))
    assert {row["detector"] for row in costs} == {"LR (BC)", "Pixel variance"}
    assert all(row["parameters"] for row in costs if row["detector"] == "LR (BC)")


def test_models_name_machine_versions_and_commit_of_every_fit(place: Path) -> None:
    behind = json.loads((place / "out" / "mine-models.json").read_text())
    (model,) = behind["models"]
    assert model == "LR (BC), lr-bc-E-smoke, china, seed 0"
    assert list(behind["models"][model]["ood"]) == ["flower"]
    (fit,) = behind["fits"]
    assert fit["name"] == "lr-bc on china, seed 0"
    assert fit["seconds"] > 0
    work = behind["work"]
    assert work["fits"] == {"count": 1, "seconds": fit["seconds"]}
    # Two detectors on the ID and the OOD test images.
    assert work["measurements"]["count"] == 4
    assert work["measurements"]["seconds"] > 0
    assert {"torch", "oodbench", "commit", "device_name", "threads"} <= set(fit["machine"])


def test_the_archive_gives_another_store_the_same_table(place: Path, tmp_path: Path) -> None:
    archive = place / "out" / "mine-runs.tar"
    assert archive.stat().st_size < 100_000
    status, out, _ = invoke(place, "store", "import", str(archive), "--store", str(tmp_path))
    assert (status, out) == (0, "10 entries added, 0 were here already\n")
    asked = ("leaderboard", "--suite", "mine", "--format", "csv")
    found = invoke(place, *asked, "--store", str(tmp_path))[1]
    marked = '"imported from mine-runs.tar, not computed in this store"'
    assert marked in found
    assert found.replace(marked, "") == invoke(place, *asked)[1]
    again = tmp_path / "again"
    assert invoke(place, "publish", str(again), "--suite", "mine", "--store", str(tmp_path))[0] == 0
    assert (again / "mine-runs.tar").read_bytes() == archive.read_bytes()


def test_a_store_of_the_archive_tests_and_draws_without_models(place: Path, tmp_path: Path) -> None:
    archive, there = place / "out" / "mine-runs.tar", ("--store", str(tmp_path / "theirs"))
    assert invoke(place, "store", "import", str(archive), *there)[0] == 0
    asked = ("compare", "lr-bc", "pixel-variance", "--pair", "china-flower")
    status, out, _ = invoke(place, *asked, *there)
    assert (status, out) == (0, invoke(place, *asked)[1])
    for figure in ("roc", "densities", "forest"):
        target = str(tmp_path / f"{figure}.svg")
        status, _, err = invoke(place, "figure", figure, "--pair", "china-flower",
                                "--detector", "lr-bc", "--out", target, *there)  # fmt: skip
        assert status == 0, err
    assert invoke(place, "report", "--out", str(tmp_path / "report"), *there)[0] == 0


def test_nothing_is_made_from_what_was_abridged(place: Path, tmp_path: Path) -> None:
    store = Store(tmp_path, trust_imported=True)
    import_store(store, place / "out" / "mine-runs.tar")
    for stage in ("score", "measure"):
        for entry in store.entries(stage):
            assert entry.record["abridged"]
            assert store.find(Key(stage, entry.parts)) is None
    for run in store.entries("run"):
        assert store.find(Key("run", run.parts)) is not None


def test_whoever_is_handed_the_archive_computes_its_metrics_again(
    place: Path, tmp_path: Path
) -> None:
    archive = place / "out" / "mine-runs.tar"
    status, out, err = invoke(place, "store", "verify", str(archive), "--store", str(tmp_path))
    assert (status, err) == (0, "")
    assert out.startswith("sound: run 2, score 4, measure 4, fit 0")
    # scikit-learn on the published scores gives the published numbers.
    store = Store(tmp_path / "theirs")
    import_store(store, archive)
    table = pandas.read_csv(place / "out" / "mine.csv")
    for run in store.entries("run"):
        sides = [
            unpack_table(read.read("scores.parquet"))
            for read in (store.get("score", str(run.parts[s])) for s in ("id_scores", "ood_scores"))
            if read is not None
        ]
        for score in run.record["scores"]:
            count = min(len(side[score]) for side in sides)
            if count < max(len(side[score]) for side in sides):
                continue  # the equal-size rule has drawn some
            outlying = np.repeat([0, 1], count)
            value = 100 * roc_auc_score(outlying, np.concatenate([s[score] for s in sides]))
            row = table[(table.title == run.record["title"]) & (table.metric == "auroc")]
            assert (row.value - value).abs().min() < 0.0002


def test_a_category_that_does_not_allow_what_was_given_is_refused(
    place: Path, tmp_path: Path
) -> None:
    archive, forged = place / "out" / "mine-runs.tar", tmp_path / "forged.tar"
    kept = [
        (name, resealed(data, category="labels")
         if name.startswith("run/") and name.endswith("record.json") else data)
        for name, data in members(archive)
    ]  # fmt: skip
    pack(forged, kept)
    status, _, err = invoke(place, "store", "verify", str(forged), "--store", str(tmp_path))
    assert status == 2
    assert "it says labels, and lr-bc is of the category" in err
    assert err.count("\n") == 1


def test_a_papers_table_keeps_its_columns_in_latex(made_up_store: Store, tmp_path: Path) -> None:
    store = str(made_up_store.storage.location)
    out = tmp_path / "new" / "folder"
    status, text, _ = invoke(tmp_path, "publish", str(out), "--suite", "table1", "--suite",
                             "table8", "--store", store)  # fmt: skip
    assert status == 0
    assert len(text.splitlines()) == 14
    asked = ("leaderboard", "--suite", "table1", "--format", "latex", "--store", store)
    assert (out / "table1.tex").read_text() == invoke(tmp_path, *asked)[1]
    assert "difference" in (out / "table1.csv").read_text().splitlines()[0]
    assert json.loads((out / "table1-models.json").read_text())["fits"] == []


def test_a_suite_of_a_file_of_ones_own(place: Path) -> None:
    suite = place / "another.yaml"
    suite.write_text(SUITE.replace("name: mine", "name: another"))
    assert invoke(place, "publish", "more", "--suite", str(suite))[0] == 0
    assert (place / "more" / "another.csv").read_text() == (place / "out/mine.csv").read_text()


def test_a_name_that_leads_out_of_the_folder_is_refused(place: Path) -> None:
    suite = place / "away.yaml"
    suite.write_text(SUITE.replace("name: mine", "name: ../away"))
    status, _, err = invoke(place, "publish", "far/down", "--suite", str(suite))
    assert status == 2
    assert "'../away' names files" in err
    assert not (place / "far").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("out", "--suite", "mien"), "unknown suite 'mien'; nearest: mine"),
        (("out", "--suite", "table8"), "no finished run of suite table8 in"),
        (("out", "--suite", "mine", "--scale", "papr"), "unknown scale 'papr'; one of"),
        (("out",), "--suite"),
        (("oodbench-project/suites/mine.yaml", "--suite", "mine"), "is a file"),
    ],
)
def test_bad_input_is_one_line(place: Path, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = invoke(place, "publish", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
