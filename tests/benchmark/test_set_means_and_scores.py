"""Means over OOD sets, metrics with ID as the positive class, and the scores of every image."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke
from PIL import Image

import oodbench
from oodbench.leaderboards.set_means import parse_means
from oodbench.rank.metrics import average_precision, fpr_at_tpr

DETECTORS = ("--detector", "mean-intensity", "--detector", "pixel-variance", "--quiet")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ID set and three OOD sets of two classes; pixel variance ran on two of them."""
    folder = tmp_path_factory.mktemp("means")
    draw = np.random.default_rng(0)
    for name, low in (("id", 0), ("x", 10), ("y", 40), ("z", 80)):
        for label in ("a", "b"):
            (folder / name / label).mkdir(parents=True)
            for i in range(20):
                pixels = draw.integers(low, low + 100, (8, 8)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name / label / f"{i:02}.png")
    run = ("run", "--in-dist", "id", "--ood", "x", "--ood", "y")
    assert invoke(folder, *run, *DETECTORS)[0] == 0
    assert invoke(folder, "run", "--in-dist", "id", "--ood", "z", *DETECTORS[:2], "--quiet")[0] == 0
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_mean_is_that_of_its_sets_and_of_who_ran_on_all(home: Path) -> None:
    status, text, _ = invoke(home, "leaderboard", "--format", "csv", "--mean", "all", "--mean",
                             "far=y,z", "--mean", "xy=x,y")  # fmt: skip
    assert status == 0
    rows = rows_of(text)
    means = {(r["pair"], r["detector"], r["metric"]): float(r["value"]) for r in rows}
    assert {r["detector"] for r in rows if "mean of all" in r["pair"]} == {"Mean intensity"}
    assert {r["detector"] for r in rows if "mean of xy" in r["pair"]} == {
        "Mean intensity", "Pixel variance",
    }  # fmt: skip
    for metric in ("auroc", "auprc", "fpr80", "fpr95"):
        single = [means[f"id-{ood}", "Mean intensity", metric] for ood in "xyz"]
        whole = means["id: mean of all (x, y, z)", "Mean intensity", metric]
        assert whole == pytest.approx(np.mean(single), abs=1e-9)
        two = means["id: mean of far (y, z)", "Mean intensity", metric]
        assert two == pytest.approx(np.mean(single[1:]), abs=1e-9)
    assert all(not r["low"] and not r["high"] for r in rows if "mean of" in r["pair"])


def test_means_are_printed_as_tables_and_given_to_python(home: Path) -> None:
    _, text, _ = invoke(home, "leaderboard", "--mean", "all")
    assert "id: mean of all (x, y, z)" in text
    table = text.partition("id: mean of all")[2]
    assert "[low, high]" not in table.split("id-")[0]
    frame = oodbench.leaderboard(home / "results/store", means="all")
    assert "id: mean of all (x, y, z)" in set(frame.pair)


@pytest.mark.parametrize(
    ("mean", "said"),
    [("nea", "write all, near or far"), ("near=", "NAME=SET"),
     ("near", "known for cifar10, cifar100"), ("q=nothing", "OOD sets that ran: x, y, z")],
)  # fmt: skip
def test_a_mean_of_nothing_is_one_line(home: Path, mean: str, said: str) -> None:
    status, _, err = invoke(home, "leaderboard", "--mean", mean)
    assert (status, said in err) == (2, True), err


def test_near_and_far_sets_of_openood() -> None:
    assert parse_means(["near", "far", "own=a, b"]) == {"near": (), "far": (), "own": ("a", "b")}


def test_id_positive_metrics_are_those_of_the_other_side_and_off_unasked(home: Path) -> None:
    asked = ("leaderboard", "--format", "csv", "--layout", "general", "--no-significance")
    _, plain, _ = invoke(home, *asked)
    assert "id_positive" not in plain
    _, text, _ = invoke(home, *asked, "--columns", "id-positive")
    row = next(r for r in rows_of(text) if (r["pair"], r["detector"]) == ("id-x", "Mean intensity"))
    _, scored, _ = invoke(home, "scores", "mean-intensity", "--pair", "id-x")
    kept = [r for r in rows_of(scored) if r["compared"] == "yes"]
    sides = [np.array([float(r["score"]) for r in kept if r["side"] == s]) for s in ("id", "ood")]
    assert len(sides[0]) == len(sides[1]) == 8
    inside, outside = sides
    accepted = np.sort(inside)[int(np.ceil(0.95 * len(inside))) - 1]  # the least that takes 95 %
    assert float(row["fpr_at_tpr95_id_positive"]) == pytest.approx(
        100 * np.mean(outside <= accepted)
    )
    order = np.argsort(np.concatenate([inside, outside]), kind="stable")
    hits = (order < len(inside)).astype(float)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    assert float(row["auprc_id_positive"]) == pytest.approx(
        100 * (precision * hits).sum() / hits.sum()
    )
    assert fpr_at_tpr(inside, outside, 0.95) != fpr_at_tpr(-outside, -inside, 0.95)
    assert average_precision(inside, outside) != average_precision(-outside, -inside)


def test_the_scores_of_every_image_name_its_file_and_label(home: Path) -> None:
    status, text, err = invoke(home, "scores", "pixel-variance", "--pair", "id-y")
    assert (status, err) == (0, "")
    rows = rows_of(text)
    assert [r["side"] for r in rows] == ["id"] * 8 + ["ood"] * 40
    for row in rows:
        image = np.asarray(Image.open(home / row["set"] / row["file"]), float) / 255
        assert row["label"] == {"a": "0", "b": "1"}[row["file"][0]]
        scale = float(row["score"]) / np.var(image)
        assert scale == pytest.approx(float(rows[0]["score"]) / np.var(
            np.asarray(Image.open(home / "id" / rows[0]["file"]), float) / 255))  # fmt: skip
    frame = oodbench.leaderboard(home / "results/store", pairs="id-y", detectors="pixel-variance")
    key = frame.runs.iloc[0]
    assert invoke(home, "scores", key)[1] == text
    assert invoke(home, "scores", key, "--out", "s.csv")[1] == ""
    assert (home / "s.csv").read_text() == text


def test_scores_of_images_that_are_gone_have_an_index(home: Path, tmp_path: Path) -> None:
    where = str(home / "results/store")
    status, text, err = invoke(tmp_path, "scores", "mean-intensity", "--pair", "id-z", "--store",
                               where)  # fmt: skip
    assert status == 0
    assert "files and labels are left empty" in err
    assert [int(r["index"]) for r in rows_of(text)] == [*range(8), *range(40)]
    status, _, err = invoke(home, "scores", "mean-intensity")
    assert (status, "add --pair" in err) == (2, True)
