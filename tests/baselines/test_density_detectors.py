"""Detectors of one log-density, trained for real on the embedded digits: they separate."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from oodbench.datasets.loading import DataPlaces, load
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import DETECTORS
from oodbench.flow.measuring.blocks import measure
from oodbench.progress import Progress
from oodbench.rank.metrics import auroc
from oodbench.train.training import Runtime, train

QUIET = Progress("quiet")


@pytest.mark.parametrize(
    ("name", "recipe_name", "epochs"), [("glow", "glow-D", 24), ("pixelcnn", "pixelcnn-D", 6)]
)
def test_digits_against_photographs(
    name: str, recipe_name: str, epochs: int, tmp_path: Path
) -> None:
    places = DataPlaces((), tmp_path / "data")
    sets = {
        "train": load("digits", "train", places).images,
        "id": load("digits", "test", places).images,
        "ood": load("photos", "test", places).images[:500],
    }
    detector = DETECTORS.get(name)()
    recipe = resolve(
        find_recipe(recipe_name), "smoke", detector.recipe_variant,
        {"training": {"epochs": epochs, "epoch_images": 640, "max_images": 1300}},
    )  # fmt: skip
    detector.recipe = recipe
    model, run = train(
        lambda: recipe.build((1, 8, 8)), sets["train"], recipe.training, seed=0, scratch=tmp_path,
        runtime=Runtime(), progress=QUIET,
    )  # fmt: skip
    assert run.rows[-1]["bits_per_dim"] < run.rows[0]["bits_per_dim"]
    detector.attach([model])
    statistics = {}
    for side in ("id", "ood"):
        (tmp_path / side).mkdir()
        statistics[side] = measure(
            detector, sets[side], np.arange(500), seed=0, device="cpu", batch_size=100,
            scratch=tmp_path / side, progress=QUIET, label="",
        ).statistics  # fmt: skip
    scores = {side: detector.scores(values)["L"] for side, values in statistics.items()}
    # Patches of photographs are far from digits: the likelihood itself must say so.
    assert auroc(scores["id"], scores["ood"]) > 0.9
    report = detector.diagnose(statistics["id"], {}, (1, 8, 8))
    bits = -statistics["id"]["log_prob"].mean() / (64 * math.log(2))
    assert report["bits_per_dim"] == pytest.approx(bits)
    assert 0 < bits < 8
