"""`oodbench diagnose` on stored runs, and where its results show up."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import oodbench
from oodbench.cli import main
from oodbench.diagnosis import StoredDiagnoses
from oodbench.reports.details import Details
from oodbench.reports.thumbnails import Thumbnails
from oodbench.share.transfer import export_store, import_store
from oodbench.store.garbage import collect
from oodbench.store.maintenance import verify
from oodbench.store.store import Store

Cli = Callable[..., tuple[int, str, str]]
PAIR = "digits-photos"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE with a witness, one of two layers without, and a detector without a model."""
    store = tmp_path_factory.mktemp("diagnosed") / "store"
    oodbench.run(
        PAIR, ["rst-vae", "vanilla-hvae", "mean-intensity"],
        scale="smoke", store=str(store), quiet=True, device="cpu",
    )  # fmt: skip
    return store


@pytest.fixture
def cli(finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(
            sys, "argv", ["oodbench", *map(str, arguments), "--store", str(finished)]
        )
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        out = capsys.readouterr()
        return status, out.out, out.err

    return run


def test_a_model_by_name_and_by_key(cli: Cli, finished: Path) -> None:
    asked = ("--images", "200", "--format", "json")
    status, by_name, said = cli("diagnose", "rst-vae", "--pair", PAIR, *asked)
    assert status == 0
    assert "diagnosing rst-vae" in said
    (model,) = json.loads(by_name)
    (layer,) = model["layers"]
    assert layer["certified"] is (layer["G_T_nats"] > 0) is True
    assert layer["own_witness"] is True
    assert "certified not constant by the simplex witness: layer 1" in model["sentence"]
    run = next(e for e in Store(finished).entries("run") if e.record["detector"] == "rst-vae")
    status, by_key, said = cli("diagnose", run.digest[:10], *asked)
    assert (status, by_key, said) == (0, by_name, "")  # found in the store
    verdict = verify(Store(finished))
    assert verdict.entries["diagnosis"] >= 1
    assert not verdict.damaged


def test_the_layers_of_a_hierarchy(cli: Cli) -> None:
    asked = ("diagnose", "vanilla-hvae", "--pair", PAIR, "--images", "150")
    status, table, _ = cli(*asked)
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(cli(*asked, "--format", "csv")[1])))
    assert [row["layer"] for row in rows] == ["1", "2"]
    assert [row["units"] for row in rows] == ["64", "4"]
    assert [row["own_witness"] for row in rows] == ["False", "False"]
    assert rows[1]["K"] == "5"  # four units hold a simplex of five corners
    assert "150 test images" in table
    assert "of 2" in table


def test_results_are_columns_and_part_of_the_report(cli: Cli, finished: Path) -> None:
    cli("diagnose", "rst-vae", "--pair", PAIR, "--images", "200")
    _, text, _ = cli("leaderboard", "--columns", "diagnostics", "--format", "csv")
    rows = {row["detector"]: row for row in csv.DictReader(io.StringIO(text))}
    assert float(rows["RST-VAE(1)"]["G_T_nats"]) > 0
    assert rows["Mean intensity"]["G_T_nats"] == ""
    store = Store(finished)
    (run,) = (e for e in store.entries("run") if e.record["detector"] == "rst-vae")
    (row,) = StoredDiagnoses(store).of(run)
    found = Details(store, Thumbnails.__new__(Thumbnails), 0)._diagnostics(run)
    assert found["diagnose"]["G_T_nats"] == [row["G_T_nats"]]  # type: ignore[index, call-overload]


def test_a_diagnosis_stays_with_its_fit(cli: Cli, finished: Path, tmp_path: Path) -> None:
    cli("diagnose", "rst-vae", "--pair", PAIR, "--images", "200")
    store = Store(finished)
    made = len(list(store.entries("diagnosis")))
    assert not [waste for waste in collect(store, 0.0).waste if "diagnosis" in str(waste.path)]
    export_store(store, tmp_path / "all.tar")
    moved = Store(tmp_path / "moved")
    import_store(moved, tmp_path / "all.tar")
    assert len(list(moved.entries("diagnosis"))) == made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rst-vae"], "'rst-vae' is no key of a run; to name a detector, add --pair NAME"),
        (["abcd1234"], "no entry starts with 'abcd1234'"),
        (["mean-intensity", "--pair", PAIR], "a detector without a model has no encoder mean"),
        (["vanilla-hvae", "--pair", PAIR, "--images", "20"], "needs as many training images"),
        (["rst-prefit", "--pair", PAIR], "no run of rst-prefit"),
        (["rst-vae", "--pair", "mnist-kmnist"], "no run of rst-vae on mnist-kmnist"),
    ],
)
def test_what_cannot_be_diagnosed_is_one_line(cli: Cli, arguments: list[str], message: str) -> None:
    status, out, error = cli("diagnose", *arguments)
    assert (status, out) == (2, "")
    assert message in error
    assert "Traceback" not in error
