"""`oodbench publish`: what it writes is what the store holds, and comes back from the archive."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from tests.benchmark.in_process import invoke

from oodbench.store.store import Store

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
    assert (status, out) == (0, "2 entries added, 0 were here already\n")
    # Without the scores of images nothing can be tested against the best, and the table says so.
    asked = ("leaderboard", "--suite", "mine", "--format", "csv", "--no-significance")
    found = invoke(place, *asked, "--store", str(tmp_path))[1]
    marked = '"imported from mine-runs.tar, not computed in this store"'
    assert marked in found
    assert found.replace(marked, "") == invoke(place, *asked)[1]
    again = tmp_path / "again"
    assert invoke(place, "publish", str(again), "--suite", "mine", "--store", str(tmp_path))[0] == 0
    assert (again / "mine-runs.tar").read_bytes() == archive.read_bytes()
    # Scores of single images are not in it, and what needs them says so.
    status, _, err = invoke(place, "compare", "lr-bc", "pixel-variance", "--pair", "china-flower",
                            "--store", str(tmp_path))  # fmt: skip
    assert status == 2
    assert "run the detector in a new store" in err
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
