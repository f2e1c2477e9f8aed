"""The same seed gives the same table, on one thread and on two, and in whatever order."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import oodbench
from oodbench.store.store import Store

DETECTORS = ["vanilla-hvae", "typicality-hvae", "mean-intensity"]


def run(folder: Path, threads: int) -> tuple[list[dict[str, object]], dict[str, str]]:
    """The table, and the SHA-256 of every payload file by entry."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        frame = oodbench.run("digits-photos", DETECTORS, scale="smoke", store=str(folder / "store"),
                             quiet=True, device="cpu")  # fmt: skip
    finally:
        torch.set_num_threads(before)
    payload = {
        f"{entry.path}/{name}": hashlib.sha256(entry.read(name)).hexdigest()
        for stage in ("fit", "measure", "score")
        for entry in Store(folder / "store").entries(stage)
        for name in entry.files
    }
    return frame.to_dict("records"), payload


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, dict[str, str]]:
    return run(tmp_path_factory.mktemp("first"), 1)


def test_twice_on_one_thread(first: tuple[object, dict[str, str]], tmp_path: Path) -> None:
    assert run(tmp_path, 1) == first


def test_twice_on_two_threads(tmp_path: Path) -> None:
    """One thread and two may differ in the last bits: sums are then cut elsewhere."""
    assert run(tmp_path / "a", 2) == run(tmp_path / "b", 2)
