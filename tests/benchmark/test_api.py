"""The Python API gives what the command line prints, and asks for the same things."""

from __future__ import annotations

import csv
import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import oodbench
from oodbench.cli import oodbench as command_line
from oodbench.datasets.imageset import ImageSet
from oodbench.errors import OodbenchError
from oodbench.store.store import Store


def printed(store: Store, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    command_line.main([*arguments, "--store", store.storage.location], standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--pair", "cifar10-svhn", "--detector", "informative-hvae:llr-ada"],
         {"pairs": "cifar10-svhn", "detectors": "informative-hvae:llr-ada"}),
        (["--columns", "cost,reverse", "--all-scores"], {"columns": ["cost", "reverse"]}),
        (["--suite", "table2"], {"suite": "table2"}),
        (["--layout", "table6", "--compare", "paper"], {"layout": "table6", "compare": "paper"}),
    ],
)  # fmt: skip
def test_a_data_frame_holds_the_rows_of_the_csv(
    arguments: list[str], options: dict[str, object], made_up_store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text = printed(made_up_store, "leaderboard", "--format", "csv", *arguments, capsys=capsys)
    rows = list(csv.DictReader(io.StringIO(text)))
    frame = oodbench.leaderboard(made_up_store.storage.location, **options)  # type: ignore[arg-type]
    assert list(frame.columns) == list(rows[0])
    assert len(frame) == len(rows) > 0

    def key(row: dict[str, object]) -> str:
        return str([row[name] for name in ("detector", "score", "metric", "runs")])

    ours = frame.astype(object).where(frame.notna(), "").to_dict("records")
    assert sorted(map(key, ours)) == sorted(map(key, rows))  # type: ignore[arg-type]
    values = sorted(f"{row['value']:.4f}" for row in ours if row["value"] != "")
    assert values == sorted(f"{float(row['value']):.4f}" for row in rows if row["value"])


def test_compare_is_the_commands_json(
    tmp_path: Path, make_run: Callable[..., str], embedded_sets: tuple[ImageSet, ImageSet],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store = Store(tmp_path)
    for detector, shift in (("strong", 2.0), ("weak", 0.5)):
        for seed in (0, 1):
            make_run(store, embedded_sets, detector, {"L": shift}, seed=seed)
    pair = str(next(iter(store.entries("run"))).record["pair"])
    text = printed(
        store, "compare", "strong", "weak", "--pair", pair, "--format", "json", capsys=capsys
    )
    expected = json.loads(text)
    frame = oodbench.compare("strong", "weak", pair, store=tmp_path)
    assert list(frame["source"]) == ["test images", "test images", "training seeds"]
    for (_, row), test in zip(frame.iterrows(), expected["test_images"], strict=False):
        assert row["seed"] == test["seed"]
        assert row["difference"] == pytest.approx(100 * test["difference"])
        assert (row["p"], row["p_holm"]) == pytest.approx((test["p_value"], test["p_holm"]))
    assert frame["sd"].iloc[-1] == pytest.approx(100 * expected["training_seeds"]["sd"])


def test_what_run_can_be_asked_on_the_command_line_it_can_be_asked_in_python() -> None:
    elsewhere = {
        "pair": "pairs", "detector": "detectors", "plugin": "plugins", "first_seed": "seeds",
        "precision": "overrides", "set": "overrides",
    }  # fmt: skip
    parameters = inspect.signature(oodbench.run).parameters
    for option in command_line.commands["run"].params:
        name = option.opts[0].lstrip("-").replace("-", "_")
        if name in ("wide", "stop_after"):
            continue  # of what is printed; a notebook stops its own cell
        assert elsewhere.get(name, name) in parameters


def test_a_dry_run_lists_what_is_missing(tmp_path: Path) -> None:
    frame = oodbench.run("china-flower", "png-length", store=tmp_path / "store", dry_run=True)
    assert list(frame["step"]) == [
        "measure china with png-length on china, seed 0",
        "measure flower with png-length on china, seed 0",
        "rank png-length on china, seed 0 on china-flower",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: oodbench.run("china-flowr"), "unknown pair 'china-flowr'; nearest: china-flower"),
        (lambda: oodbench.run("china-flower", "png-lenth"), "nearest: png-length"),
        (lambda: oodbench.run("china-flower", seeds=[]), "whole numbers from 0"),
        (lambda: oodbench.run("china-flower", seeds=[-1]), "whole numbers from 0"),
        (lambda: oodbench.run("china-flower", scale="tiny"), "one of paper, small, smoke"),
        (lambda: oodbench.run(in_dist="digits"), "go together"),
        (lambda: oodbench.leaderboard(layout="table99"), "unknown layout"),
        (lambda: oodbench.leaderboard(columns="costs"), "nearest: cost"),
        (lambda: oodbench.compare("a", "b", "c"), "no run of pair 'c'"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_of_one_line(
    call: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OodbenchError, match=message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


def test_the_store_of_the_environment_is_the_default(
    made_up_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OODBENCH_STORE", made_up_store.storage.location)
    assert set(oodbench.leaderboard(pairs="cifar10-svhn")["pair"]) == {"cifar10-svhn"}


def test_a_leaderboard_imports_no_torch(made_up_store: Store) -> None:
    code = (
        f"import sys, oodbench; oodbench.leaderboard({made_up_store.storage.location!r});"
        f" assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
