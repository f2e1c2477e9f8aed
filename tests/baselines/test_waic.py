"""WAIC: its formula, its invariant, and five real members that the store shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from oodbench.baselines.waic import WAICGlow
from oodbench.store.store import Store


def test_formula() -> None:
    generator = np.random.default_rng(0)
    log_prob = generator.normal(-100, 5, (20, 5))
    scores = WAICGlow().scores({"log_prob": log_prob})
    for row, score in zip(log_prob, scores["-WAIC"], strict=True):
        mean = sum(row) / 5
        assert score == pytest.approx(sum((v - mean) ** 2 for v in row) / 5 - mean)
    np.testing.assert_allclose(scores["-WAIC"], scores["mean"] + scores["variance"])


def test_equal_members_give_the_likelihood() -> None:
    one = np.random.default_rng(0).normal(-100, 5, (20, 1))
    scores = WAICGlow().scores({"log_prob": np.repeat(one, 5, axis=1)})
    np.testing.assert_allclose(scores["-WAIC"], -one[:, 0])


def test_disagreement_counts_as_out_of_distribution() -> None:
    agree, differ = np.full((1, 5), -100.0), np.array([[-90.0, -95.0, -100.0, -105.0, -110.0]])
    detector = WAICGlow()
    score = [detector.scores({"log_prob": v})["-WAIC"][0] for v in (agree, differ)]
    assert score[1] > score[0]


def test_members_are_ordinary_fits_that_others_share(
    tmp_path: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    arguments = ("run", "--pair", "digits-photos", "--scale", "smoke", "--set",
                 "training.epochs=4", "--detector")  # fmt: skip
    first = command(*arguments, "waic-glow", "--detector", "glow")
    assert first.returncode == 0, first.stderr
    store = Store(tmp_path / "results" / "store")
    seeds = sorted(int(str(entry.parts["seed"])) for entry in store.entries("fit"))
    assert seeds == [0, 1, 2, 3, 4]  # `glow` with seed 0 is member 1
    (measured,) = {
        len(entry.parts["fits"])  # type: ignore[arg-type]
        for entry in store.entries("measure") if entry.parts["measure"] == "waic"
    }  # fmt: skip
    assert measured == 5
    board = command("leaderboard", "--detector", "waic-glow", "--format", "json")
    rows = {row["score"]: row["metrics"]["auroc"]["value"] for row in json.loads(board.stdout)}
    assert rows["-WAIC"] > 80, rows
