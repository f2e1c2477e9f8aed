"""`fit` of a detector that stands on a recipe: called with the model attached, its state kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import oodbench
from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS
from oodbench.store.payload import unpack_table, unpack_tensors
from oodbench.store.store import Store
from oodbench.testing import check_detector

PLUGIN = """
import torch
from oodbench import Detector, register

CALLS = []


@register("off-centre", title="|log p - mean|")
class OffCentre(Detector):
    recipe_variant = "glow"

    def attach(self, models):
        self.model = models[0]

    def fit(self, train, context):
        CALLS.append(len(train))
        with torch.no_grad():
            self.centre = self.model.log_prob(torch.from_numpy(train.images[:100].copy())).mean()

    def measure(self, images, noise):
        log_prob = self.model.log_prob(images, noise)
        return {"off": (log_prob - self.centre).abs(), "log_prob": log_prob}

    def score(self, statistics):
        return statistics["off"]

    def state_dict(self):
        return {"centre": self.centre.double()}

    def load_state_dict(self, state):
        self.centre = state["centre"]
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    for name in ("_objects", "_origins"):
        monkeypatch.setattr(DETECTORS, name, dict(getattr(DETECTORS, name)))
    monkeypatch.chdir(tmp_path)
    Path("centre.py").write_text(PLUGIN)
    load_plugin("centre.py")
    found = DETECTORS.get("off-centre")
    return found.fit.__globals__["CALLS"]


def run(**more: object) -> float:
    frame = oodbench.run("digits-photos", "off-centre", scale="smoke", quiet=True, device="cpu",
                         overrides={"measure": {"max_images": 40}}, **more)  # fmt: skip
    return float(frame[frame.metric == "auroc"].value.iloc[0])


def test_it_is_called_once_its_state_stored_and_its_measurements_use_it(calls: list[int]) -> None:
    run()
    assert calls == [1297]
    store = Store("results/store")
    (own,) = (e for e in store.entries("fit") if "models" in e.parts)
    (model,) = (e for e in store.entries("fit") if "model" in e.parts)
    assert own.parts["models"] == [model.digest]
    centre = float(unpack_tensors(own.read("state.safetensors"))["centre"])
    for entry in store.entries("measure"):
        assert entry.parts["fits"] == [model.digest, own.digest]
        table = unpack_table(entry.read("statistics.parquet"))
        np.testing.assert_allclose(table["off"], abs(table["log_prob"] - centre), rtol=1e-6)
        assert table["off"].min() < 0.5 * table["off"].max()
    # Taken from the store where measurements are made anew.
    for kind in ("score", "run", "measure"):
        shutil.rmtree(Path("results/store", kind))
    run()
    assert calls == [1297]


def test_it_goes_with_an_export(calls: list[int]) -> None:
    from click.testing import CliRunner

    from oodbench.cli.root import oodbench as command

    arguments = ["export", "off-centre", "--pair", "digits-photos", "--scale", "smoke", "--quiet"]
    done = CliRunner().invoke(command, [*arguments, "--out", "out"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    detector = oodbench.load_detector("out")
    images = oodbench.load_pair("digits-photos").id_test.images
    assert len(calls) == 1
    np.testing.assert_array_equal(
        np.sort(detector.scores_of(images, noise="position")), detector.id_scores
    )


def test_the_check_looks_at_what_it_learns(calls: list[int]) -> None:
    results = {r.check.name: r for r in check_detector("off-centre")}
    assert results["tensors only"].seen == "1 tensor"
    assert results["fit repeats"].status == results["saved state"].status == "passed"
    cls = DETECTORS.get("off-centre")

    def forgetful(self: object) -> dict[str, torch.Tensor]:
        return {}

    cls.state_dict = forgetful  # type: ignore[method-assign, assignment]
    with pytest.raises(AssertionError, match="KeyError: 'centre'"):
        check_detector("off-centre", checks=["saved state"])
