"""A step of training makes the host wait for nothing; what is read is read when it is announced."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from host_reads import HostReads
from recipe_structures import Structure, structures

from oodbench.declare.recipes import find_recipe, resolve
from oodbench.declare.settings import Training
from oodbench.errors import TrainingError
from oodbench.progress import Progress
from oodbench.train import optimisation, training
from oodbench.train.batches import Supervision
from oodbench.train.running_sums import RunningSums
from oodbench.train.training import Runtime, _Loop, log_csv, train

SHAPE = (1, 8, 8)
GENERATOR = np.random.default_rng(0)


def pixels(count: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return GENERATOR.integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(autouse=True)
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimisers as a GPU has them: their counters are where the weights are."""
    plain = optimisation._plain

    def fused(parameters: list[torch.nn.Parameter], settings: Training) -> torch.optim.Optimizer:
        found = plain(parameters, settings)
        if isinstance(found, torch.optim.Adam | torch.optim.SGD):
            for group in found.param_groups:
                group["fused"] = True
        return found

    monkeypatch.setattr(optimisation, "_plain", fused)


def counted(loop: _Loop, steps: int) -> HostReads:
    """What `steps` steps read, but for the counters of optimisers that keep them on the CPU."""
    loop.model.train()
    reads, update = HostReads(), loop.optimiser.step
    if not isinstance(loop.optimiser, torch.optim.Adam | torch.optim.SGD):

        def uncounted() -> None:
            with reads.paused():
                update()

        loop.optimiser.step = uncounted  # type: ignore[method-assign, assignment]
    with reads:
        for step in range(steps):
            loop._one_step(step)
            loop.state.step += 1
    return reads


def test_reads_are_counted() -> None:
    """A ruler that measures nothing would find nothing."""
    value = torch.tensor([0.5, 2.0])
    ways: list[Callable[[], object]] = [
        lambda: value[0].item(), value.tolist, value.numpy, value.cpu, lambda: bool(value[0]),
        lambda: float(value[0]), lambda: value.nonzero(), lambda: value[value > 1],
        lambda: torch.equal(value, value), lambda: range(int(value[1])),
    ]  # fmt: skip
    for way in ways:
        with HostReads() as reads:
            way()
        assert reads.found.total() >= 1
    with HostReads() as reads:
        value.add_(1).where(value > 2, value).sum()
    assert not reads.found


def test_a_hundred_steps_read_nothing(tmp_path: Path) -> None:
    recipe = resolve(
        find_recipe("D2"), "smoke", "vanilla",
        {"training": {"ema": 0.9, "clip": 1.0, "lr_warmup_steps": 5, "batch_size": 4}},
    )  # fmt: skip
    build = lambda: recipe.config.build(SHAPE)  # noqa: E731
    loop = _Loop(build, pixels(60), recipe.training, 0, tmp_path, Runtime())
    loop.resume()
    assert not counted(loop, 100).found
    read = loop.sums.read()
    assert read.broken is None
    assert math.isfinite(read.sums["loss"])


@pytest.mark.parametrize("structure", structures(), ids=lambda s: s.names[0])
def test_no_model_reads_in_a_step(structure: Structure, tmp_path: Path) -> None:
    """Every structure of model and training settings; the first step may set something up."""
    recipe, shape = structure.recipe, structure.shape
    settings = recipe.training.model_copy(update={"batch_size": 4, "early_stop": None})
    images = pixels(320, shape)
    wanted = settings.outliers is not None and settings.outliers.kind == "set"
    labels = np.arange(len(images)) % 5 if hasattr(recipe.build(shape), "classes") else None
    supervision = Supervision(labels, pixels(16, shape) if wanted else None)
    build = lambda: recipe.build(shape)  # noqa: E731
    loop = _Loop(build, images, settings, 0, tmp_path, Runtime(), supervision)
    loop.resume()
    loop._one_step(0)
    loop.state.step = 1
    assert not counted(loop, 2).found


def test_reads_are_those_of_lines_epochs_and_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = resolve(find_recipe("D2"), "smoke", "vanilla", {"training": {"epochs": 3}})
    read, reads = RunningSums.read, [0]

    def counting(sums: RunningSums) -> object:
        reads[0] += 1
        return read(sums)

    monkeypatch.setattr(RunningSums, "read", counting)

    def fit(folder: str, style: str, checkpoint_seconds: float = 1e9) -> tuple[int, bytes]:
        (tmp_path / folder).mkdir()
        reads[0] = 0
        _, run = train(
            lambda: recipe.config.build(SHAPE), IMAGES,
            recipe.training, seed=0, scratch=tmp_path / folder,
            runtime=Runtime(checkpoint_seconds=checkpoint_seconds), progress=Progress(style),
        )  # fmt: skip
        return reads[0], log_csv(run.rows)

    steps = 3 * per_epoch(recipe.training)
    quiet, log = fit("a", "quiet")
    assert quiet == 3
    assert fit("b", "lines") == (3 + 1, log)  # the last step prints its line
    monkeypatch.setattr("oodbench.progress.LINE_SECONDS", 0.0)
    assert fit("c", "lines") == (3 + steps, log)
    assert fit("d", "quiet", checkpoint_seconds=0.0) == (3 + steps, log)
    rows = list(csv.DictReader(io.StringIO(log.decode())))
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3]


IMAGES = pixels(100)


def per_epoch(settings: Training) -> int:
    return math.ceil((settings.epoch_images or len(IMAGES)) / settings.batch_size)


def test_a_loss_that_is_not_finite_is_found_with_its_step_and_leaves_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = resolve(find_recipe("D2"), "smoke", "vanilla", {"training": {"epochs": 4}})
    broken = 2 * per_epoch(recipe.training) + 1
    step = _Loop._one_step
    saved: list[int] = []

    def breaking(loop: _Loop, number: int) -> None:
        if number == broken:
            with torch.no_grad():
                next(loop.model.parameters()).fill_(torch.nan)
        step(loop, number)

    def saving(loop: _Loop) -> None:
        save(loop)
        saved.append(loop.state.step)

    save = _Loop.save
    monkeypatch.setattr(_Loop, "_one_step", breaking)
    monkeypatch.setattr(_Loop, "save", saving)
    with pytest.raises(TrainingError, match=rf"loss became nan in epoch 3, step {broken + 1} of"):
        train(
            lambda: recipe.config.build(SHAPE), IMAGES, recipe.training, seed=0, scratch=tmp_path,
            runtime=Runtime(checkpoint_seconds=0.0), progress=Progress("quiet"),
        )  # fmt: skip
    assert saved == list(range(1, broken + 1))
    assert training.read_sealed(tmp_path / training.CHECKPOINT) is not None


def test_sums_are_those_of_python() -> None:
    """Float64 on the device, step after step, whatever the names of a step."""
    values = np.random.default_rng(1).normal(0, 100, (50, 3))
    sums = RunningSums({"loss": 0.25}, torch.device("cpu"))
    expected = {"loss": 0.25}
    for number, row in enumerate(values.tolist()):
        names = ("loss", "elbo", "kl_1") if number < 30 else ("kl_1", "loss")
        logged = dict(zip(names, row, strict=False))
        sums.add(number, {name: torch.tensor(x, dtype=torch.float64) for name, x in logged.items()})
        for name, x in logged.items():
            expected[name] = expected.get(name, 0.0) + x
    assert sums.read().sums == expected
    sums.add(50, {"loss": torch.tensor(-torch.inf)})
    sums.add(51, {"loss": torch.tensor(torch.nan)})
    assert sums.read().broken == (50, -math.inf)
    sums.clear()
    assert sums.read().sums == {}
