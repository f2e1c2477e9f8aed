"""Provenance: what a record says of the machine is so."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from oodbench.store.provenance import commit, machine_record


def test_machine_record() -> None:
    record = machine_record("cpu")
    assert record["torch"] == version("torch")
    assert record["oodbench"] == version("oodbench")
    assert record["device_name"]
    assert int(str(record["cores"])) >= 1


def test_commit_is_that_of_the_checkout_the_code_runs_from() -> None:
    import oodbench

    folder = Path(oodbench.__file__).resolve().parent
    head = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    found = commit()
    if head and (folder.parent / "pyproject.toml").is_file():
        assert found in (head, f"{head}-dirty")
    else:
        assert found is None
