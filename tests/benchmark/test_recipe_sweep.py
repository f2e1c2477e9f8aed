"""`oodbench sweep recipe`: a grid of settings as ordinary runs, chosen on ID data."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from in_process import invoke

from oodbench.store.store import Store

SWEEP = ("sweep", "recipe", "--model", "vanilla-hvae", "--in-dist", "digits", "--ood", "photos",
         "--scale", "smoke", "--quiet")  # fmt: skip
GRID = ("--set", "training.epochs=1,2", "--set", "training.lr=1e-3,2e-3")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """Where it ran, and its CSV."""
    folder = tmp_path_factory.mktemp("grid")
    status, out, err = invoke(folder, *SWEEP, *GRID, "--format", "csv", "--figure", "grid.svg")
    assert status == 0, err
    assert (folder / "grid.svg").is_file()
    return folder, list(csv.DictReader(io.StringIO(out)))


def test_every_combination_runs_once_and_the_recipe_s_own_is_the_default(
    swept: tuple[Path, list[dict[str, str]]],
) -> None:
    folder, rows = swept
    points = {row["dims"] for row in rows if not row["choice"]}
    # D2 at scale smoke has 2 epochs at 2e-3: that combination is the recipe itself.
    assert points == {
        "the recipe's own", "training.epochs=1, training.lr=0.001", "training.epochs=1",
        "training.lr=0.001",
    }  # fmt: skip
    assert {row["dims"] for row in rows if row["choice"] == "default"} == {"the recipe's own"}
    assert len(list(Store(folder / "results/store").entries("fit"))) == 4
    assert {row["score"] for row in rows} == {"L", "LLR>1", "LLR_ada", "KL<=2"}


def test_the_choice_is_the_best_bound_of_held_out_id_images_and_the_oracle_is_marked(
    swept: tuple[Path, list[dict[str, str]]],
) -> None:
    _, rows = swept
    every = {r["dims"]: float(r["held_out_bits_per_dim"]) for r in rows if not r["choice"]}
    chosen = {row["dims"] for row in rows if row["choice"] == "chosen on ID data"}
    assert chosen == {min(every, key=lambda point: every[point])}
    for score in ("L", "LLR>1"):
        areas = [float(r["value"]) for r in rows if r["score"] == score and not r["choice"]]
        (oracle,) = [r for r in rows if r["score"] == score and r["choice"] == "oracle"]
        assert float(oracle["value"]) == max(areas)
        assert oracle["category"] == "oracle"


def test_the_runs_are_those_of_run_with_settings(
    swept: tuple[Path, list[dict[str, str]]],
) -> None:
    folder, _ = swept
    done = ("run", "--pair", "digits-photos", "--scale", "smoke", "--detector", "vanilla-hvae@D2",
            "--set", "training.epochs=1", "--dry-run")  # fmt: skip
    assert invoke(folder, *done)[:2] == (0, "nothing is missing\n")


def test_a_dry_run_lists_the_settings_and_wrong_ones_are_one_line(tmp_path: Path) -> None:
    status, out, _ = invoke(tmp_path, *SWEEP, *GRID, "--dry-run")
    assert status == 0
    assert "vanilla-hvae@D2 at 4 values of setting, 4 configurations, 1 seeds:" in out
    for setting, said in (
        ("training.lr", "write KEY=VALUE,VALUE"), ("training.rate=1,2", "unknown key 'rate'"),
        ("training.lr=1,,2", "write KEY=VALUE,VALUE"), ("training.lr=0.1,0", "greater than 0"),
    ):  # fmt: skip
        status, _, err = invoke(tmp_path, *SWEEP, "--set", setting)
        assert (status, said in err) == (2, True), err
