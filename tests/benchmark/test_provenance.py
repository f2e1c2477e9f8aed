"""Provenance: what a record says of the machine is so."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import oodbench
from oodbench.store.provenance import commit, machine_record
from oodbench.store.store import Store
from oodbench.train.devices import arithmetic


def test_machine_record() -> None:
    record = machine_record("cpu")
    assert record["torch"] == version("torch")
    assert record["oodbench"] == version("oodbench")
    assert record["device_name"]
    assert int(str(record["cores"])) >= 1


def test_records_say_how_numbers_are_multiplied(tmp_path: Path) -> None:
    """TF32 is a GPU's, in training alone; a fit says what it was trained with."""
    assert arithmetic("cuda:1", "bf16", tf32=True)["tf32"] is True
    assert arithmetic("cuda")["tf32"] is False
    oodbench.run(
        "digits-photos", "vanilla-hvae", scale="smoke", store=tmp_path, quiet=True, device="cpu",
        overrides={"training": {"epochs": 1, "epoch_images": 32, "precision": "bf16"}},
    )  # fmt: skip
    store, plain = Store(tmp_path), {"tf32": False, "compiled": False}
    (fit,) = store.entries("fit")
    assert fit.record["arithmetic"] == {"precision": "bf16", **plain}
    for measured in store.entries("measure"):
        assert measured.record["arithmetic"] == {"precision": "fp32", **plain}


def test_commit_is_that_of_the_checkout_the_code_runs_from() -> None:
    folder = Path(oodbench.__file__).resolve().parent
    head = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    found = commit()
    if head and (folder.parent / "pyproject.toml").is_file():
        assert found in (head, f"{head}-dirty")
    else:
        assert found is None
