"""HVK: who chose k, and that a run says so; detectors on seeded subsets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np

from oodbench.baselines.hvk import BEST, BY_ID, HVK
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.store.store import Store


def hvk() -> HVK:
    detector = HVK()
    detector.recipe = resolve(find_recipe("F3-hvk"), "smoke", "hvk-published")
    return detector


def test_training_images_choose_the_layer_where_reconstruction_loses_most() -> None:
    detector = hvk()
    training = np.array([[10.0, 12.0, 60.0], [12.0, 14.0, 50.0]])
    detector.calibrate({"nll": training})
    assert detector.chosen == 2
    detector.calibrate({"nll": np.array([[10.0, 40.0, 60.0]])})
    assert detector.chosen == 1


def test_scores_hold_every_k_and_the_choice() -> None:
    detector = hvk()
    detector.chosen = 2
    generator = np.random.default_rng(0)
    kl = generator.uniform(1, 2, (4, 3, 3)) * np.triu(np.ones((3, 3)))
    nll = generator.uniform(10, 20, (4, 3))
    statistics = {"nll": nll, "elbo": -nll[:, 0] - kl[:, 0].sum(1)}
    statistics |= {f"kl_{k}": kl[:, k] for k in range(3)}
    scores = detector.scores(statistics)
    assert list(scores) == detector.score_names() == ["L", "LLR>1", "LLR>2", BY_ID]
    np.testing.assert_array_equal(scores[BY_ID], scores["LLR>2"])
    assert detector.oracles() == {BEST: ["LLR>1", "LLR>2"]}


def test_a_run_names_the_oracle_and_the_subset(
    trained: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    done = command(
        "run", "--pair", "digits-photos", "--scale", "smoke",
        "--detector", "hvk", "--detector", "likelihood-regret-z", "--store", str(trained),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a seeded subset of 100 of 500 images" in " ".join(done.stdout.split())
    records = {
        str(entry.record["detector"]): entry.record
        for entry in Store(trained).entries("run") if entry.record["pair"] == "digits-photos"
    }  # fmt: skip
    assert records["hvk"]["scores"][BEST]["oracle"] == "LLR>1"  # type: ignore[index,call-overload]
    assert records["likelihood-regret-z"]["n"] == 100
    board = json.loads(command("leaderboard", "--format", "json", "--store", str(trained)).stdout)
    categories = {row["score"]: row["category"] for row in board if row["detector"] == "HVK(2)"}
    assert categories[BEST] == "oracle"
    assert categories[BY_ID] == "unsupervised"
