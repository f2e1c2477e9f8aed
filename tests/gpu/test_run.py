"""The script for a GPU runs whole on a CPU, in tiny sizes: it is ready for the day."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import run
from session import Session


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few images under the names of the papers' sets."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, count in (
        ("fashionmnist-train", 300), ("fashionmnist-test", 40), ("mnist-test", 40),
        ("notmnist-test", 40), ("omniglot-small-28", 40),
    ):  # fmt: skip
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=np.arange(count) % 10)
    return folder


@pytest.mark.slow
def test_every_part_runs_and_writes_as_it_goes(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--data", str(data), "--device", "cpu", "--tiny"]
    assert run.main(arguments) == 0
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    found = {(row["part"], row["what"]): row for row in rows}
    for part in run.PARTS:
        assert found[part, "over"]["time_up"] is False
    bars = [row for row in rows if "met" in row]
    assert not [row for row in bars if row["met"] is False]
    assert found["a", "fp32, statistic elbo"]["met"]
    assert found["b", "glow-F-glow, 2 steps"]["guard"] is False
    assert found["c", "training C3, graphs"]["images_per_second"] > 0
    assert found["d", "F3 informative"]["epochs"] == 1
    assert {path.name for path in (out / "paper").iterdir()} == {
        "F3-informative.csv", "F3-informative-runs.tar",
    }  # fmt: skip


def test_what_fails_is_written_and_the_next_part_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(session: Session) -> None:
        raise RuntimeError("no such card")

    def endless(session: Session) -> None:
        while True:
            pass

    def whole(session: Session) -> None:
        session.bar("as it should be", True)

    parts = {"a": (broken, 1.0), "b": (endless, 0.001), "c": (whole, 1.0)}
    monkeypatch.setattr(run, "PARTS", parts)
    out = ["--out", str(tmp_path), "--device", "cpu", "--minutes", "1", "--parts", "abc"]
    assert run.main(out) == 1
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    told = [(row["part"], row["what"], row.get("met")) for row in rows[1:]]
    assert told == [("a", "failed", False), ("b", "over", None), ("c", "as it should be", True),
                    ("c", "over", None)]  # fmt: skip
    assert "no such card" in rows[1]["error"]
    with pytest.raises(SystemExit):
        run.main(out)
