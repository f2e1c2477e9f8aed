"""Detectors that need gradients: on where they are declared, and said where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import invoke

import oodbench
from oodbench import Detector
from oodbench.detect.detector import DETECTORS
from oodbench.errors import PluginError
from oodbench.flow.measuring.blocks import measure_now
from oodbench.testing import check_detector

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 1, 4, 4), dtype=np.uint8)
PLUGIN = """
import torch
from oodbench import Detector, register

@register("slope", title="Slope")
class Slope(Detector):
    needs_gradient = {declared}
    def fit(self, train, context):
        self.mean = torch.from_numpy(train.images.mean(0))
    def measure(self, images):
        x = images.double().requires_grad_()
        energy = 0.5 * ((x - self.mean) ** 2).flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(energy.sum(), x)
        return {{"norm": gradient.flatten(1).norm(dim=1), "energy": energy}}
    def score(self, statistics):
        return statistics["norm"]
    def state_dict(self):
        return {{"mean": self.mean}}
    def load_state_dict(self, state):
        self.mean = state["mean"]
"""


class Square(Detector):
    """The gradient of Σ x² is 2x."""

    name = "square"
    needs_gradient = True

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        x = images.double().requires_grad_()
        value = (x**2).flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return {"gradient": gradient.flatten(1), "value": value}  # value still has its graph


@pytest.mark.parametrize("outside", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_gradients_are_those_of_the_images(outside: type) -> None:
    with outside():
        found = measure_now(Square(), IMAGES, np.arange(7), seed=0, device="cpu", batch_size=3)
    np.testing.assert_array_equal(found["gradient"], 2.0 * IMAGES.reshape(7, -1))
    np.testing.assert_array_equal(found["value"], (IMAGES.astype(float) ** 2).sum((1, 2, 3)))


def test_a_detector_that_does_not_ask_measures_in_inference_mode() -> None:
    class Plain(Square):
        needs_gradient = False

        def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            assert torch.is_inference_mode_enabled()
            return super().measure(images)

    with pytest.raises(PluginError, match=r"square: measure asks .* `needs_gradient = True`"):
        measure_now(Plain(), IMAGES, np.arange(7), seed=0, device="cpu", batch_size=3)


def test_a_declared_gradient_runs_is_checked_and_is_exported(tmp_path: Path) -> None:
    (tmp_path / "slope.py").write_text(PLUGIN.format(declared=True))
    asked = ("--plugin", "slope.py", "--quiet")
    status, _, err = invoke(
        tmp_path, "run", "--pair", "digits-photos", "--detector", "slope", *asked
    )
    assert status == 0, err
    check_detector("slope", checks=["returned types", "finite", "batches", "saved state"])
    status, _, err = invoke(
        tmp_path, "export", "slope", "--in-dist", "digits", "--out", "e", *asked
    )
    assert status == 0, err
    exported = oodbench.load_detector(tmp_path / "e", plugins=tmp_path / "slope.py")
    assert (np.diff(exported.scores_of(exported_images())) != 0).all()


def exported_images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)


def test_the_command_says_what_to_declare(tmp_path: Path) -> None:
    (tmp_path / "undeclared.py").write_text(
        PLUGIN.format(declared=False).replace('"slope"', '"slope-undeclared"')
    )
    status, _, err = invoke(tmp_path, "run", "--pair", "digits-photos", "--quiet", "--plugin",
                            "undeclared.py", "--detector", "slope-undeclared")  # fmt: skip
    assert status == 2
    assert "slope-undeclared: measure asks for gradients" in err
    assert "declare `needs_gradient = True`" in err
    assert "Traceback" not in err
    assert "slope-undeclared" in DETECTORS.names()
