"""Memory that runs out: measuring goes on in smaller batches, training says what to lower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import Detector, Statistics
from oodbench.errors import PluginError, TrainingError
from oodbench.flow.measuring import blocks
from oodbench.flow.measuring.blocks import Measured, measure
from oodbench.progress import Progress
from oodbench.seeding import KeyedNoise
from oodbench.train.training import Runtime, _Loop, train

QUIET = Progress("quiet")
RECIPE = resolve(find_recipe("D2"), "smoke", "vanilla")
IMAGES = np.random.default_rng(0).integers(0, 256, (640, 1, 8, 8), dtype=np.uint8)


def measured(
    folder: Path, detector: Detector, count: int = 640, progress: Progress = QUIET
) -> Measured:
    folder.mkdir(exist_ok=True)
    return measure(
        detector, IMAGES, np.arange(count), seed=3, device="cpu", batch_size=100, scratch=folder,
        progress=progress, label="measure",
    )  # fmt: skip


def weights(folder: Path) -> tuple[torch.Tensor, int]:
    """Of a fit, whole or resumed; and how often it was."""
    folder.mkdir(exist_ok=True)
    model, run = train(
        lambda: RECIPE.config.build((1, 8, 8)), IMAGES[:200], RECIPE.training, seed=0,
        scratch=folder, runtime=Runtime(checkpoint_seconds=0.0), progress=QUIET,
    )  # fmt: skip
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]), run.resumed


class Hungry(Detector):
    """Has room for so many images at once."""

    name = "hungry"

    def __init__(self, room: int, kind: type[Exception] = torch.OutOfMemoryError) -> None:
        self.room, self.kind, self.sizes = room, kind, list[int]()

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
        if len(images) > self.room:
            raise self.kind("DefaultCPUAllocator: can't allocate memory")
        self.sizes.append(len(images))
        found = {"x": images.double().mean((1, 2, 3)) + noise.normal("z", ())}
        return Statistics(found, {"sum": images.double().sum()})


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_measuring_halves_its_batch_where_memory_runs_out(
    kind: type[Exception], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, tight = measured(tmp_path / "a", Hungry(1000)), Hungry(30, kind)
    found = measured(tmp_path / "b", tight, progress=Progress("lines"))
    assert set(tight.sizes) == {25, 15}
    assert sum(tight.sizes) == 640
    np.testing.assert_array_equal(found.statistics["x"], whole.statistics["x"])
    np.testing.assert_allclose(found.totals["sum"], whole.totals["sum"], rtol=1e-12)
    said = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    assert said == [
        f"cpu ran out of memory: measuring goes on in batches of {size}" for size in (50, 25)
    ]
    with pytest.raises(TrainingError, match="too little memory to measure a single image"):
        measured(tmp_path / "c", Hungry(0, kind))


def test_another_error_of_measuring_is_no_lack_of_memory(tmp_path: Path) -> None:
    class Wrong(Hungry):
        def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Statistics:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(PluginError, match="measure raised RuntimeError: shapes do not fit"):
        measured(tmp_path, Wrong(9), 20)


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_training_out_of_memory_says_what_to_lower_and_keeps_the_checkpoint(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = _Loop._one_step

    def full(loop: _Loop, number: int) -> None:
        if number == 3:
            raise kind("CUDA out of memory")
        step(loop, number)

    monkeypatch.setattr(_Loop, "_one_step", full)
    message = (
        r"cpu has too little memory to train on batches of \d+ images of 1×8×8; lower training"
    )
    with pytest.raises(TrainingError, match=message):
        weights(tmp_path)
    monkeypatch.undo()
    found, resumed = weights(tmp_path)
    assert resumed == 1
    assert torch.equal(found, weights(tmp_path / "whole")[0])


def test_blocks_arrive_in_order_with_one_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does: the next block is handed over before one is waited for."""
    happened: list[str] = []

    class Recorded:
        def __init__(self, name: int) -> None:
            self.name = name
            happened.append(f"begin {name}")

        def arrived(self) -> dict[str, torch.Tensor]:
            happened.append(f"wait {self.name}")
            return {}

    chosen = [(start, np.array([start])) for start in (0, 5, 10)]
    for ahead, order in (
        (True, "begin 0, begin 5, wait 0, begin 10, wait 5, wait 10"),
        (False, "begin 0, wait 0, begin 5, wait 5, begin 10, wait 10"),
    ):
        happened.clear()
        begin = lambda index: Recorded(int(index[0]))  # noqa: E731
        found = [start for start, _ in blocks._stream(chosen, begin, ahead)]  # type: ignore[arg-type]
        assert (found, ", ".join(happened)) == ([0, 5, 10], order)
