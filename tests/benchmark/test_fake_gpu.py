"""Every model and every detector on a GPU that is not there: no tensor stays on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_gpu import GPU, fake_gpu, moved
from recipe_structures import Structure, structures
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from oodbench.conformance.subject import Subject
from oodbench.detect.detector import DETECTORS, Detector, FitContext, wants_noise
from oodbench.flow.plan import DetectorRequest
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.seeding import KeyedNoise
from oodbench.train.devices import channels_last

if tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) < (2, 11):
    reason = "fake CUDA tensors of torch before 2.11 ask for the driver (seen with 2.6)"
    pytest.skip(reason, allow_module_level=True)

COUNT = 4
BUILT_IN = [
    name for name in DETECTORS.names()
    if DETECTORS.get(name).__module__.startswith("oodbench.baselines.")
]  # fmt: skip
#: Detectors that compress images on the host: their statistics are made there.
COMPRESSING = {
    "input-complexity-glow", "input-complexity-hvae", "input-complexity-pixelcnn", "png-length",
}  # fmt: skip
#: What other detectors wait for, once in every batch.
WAITING = {
    **{
        name: {"__bool__", "mask"}  # which classes had training images
        for name in (
            "mahalanobis", "mahalanobis-densenet", "mahalanobis-tuned", "mahalanobis-validated",
            "relative-mahalanobis",
        )
    },
    **{name: {"cuda → cpu"} for name in COMPRESSING},
}  # fmt: skip
STRUCTURES = structures()


def networks() -> set[str]:
    """The first structure of every network: the others differ in what it is trained for."""
    found: dict[str, str] = {}
    for structure in STRUCTURES:
        config = structure.recipe.config.model_dump(mode="json")
        config.pop("objective", None)
        found.setdefault(repr((structure.recipe.config.name, structure.shape, config)),
                         structure.names[0])  # fmt: skip
    return set(found.values())


MEASURED = networks()


# ---------------------------------------------------------------------- the simulation itself
def test_a_tensor_that_stayed_behind_is_found() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept, self.weight = torch.ones(3), nn.Parameter(torch.ones(3))
            self.register_buffer("known", torch.ones(3))

    model = Forgetful()
    with fake_gpu():
        moved(model)
        assert {t.device for t in (model.weight, model.known)} == {GPU}
        assert isinstance(model.known, FakeTensor)
        _ = model.weight + model.known
        with pytest.raises(RuntimeError, match="same device"):
            _ = model.weight + model.kept


@pytest.mark.parametrize(
    ("wait", "named"),
    [
        (lambda x: x.cpu(), "cuda → cpu"),
        (lambda x: x.to("cpu", non_blocking=True).to(GPU), "cpu → cuda"),
        (lambda x: torch.tensor([1.0], device=x.device), "torch.tensor on the GPU"),
        (lambda x: float(x.sum()), "__float__"),
        (lambda x: bool((x > 0).all()), "__bool__"),
        (lambda x: x.sum().item(), "item"),
        (lambda x: x[torch.tensor([0, 1])], "index on the CPU"),
        (lambda x: torch.zeros(3).copy_(x), "cuda → cpu"),
    ],
)  # fmt: skip
def test_what_the_host_waits_for_is_counted(wait: Callable[[Tensor], object], named: str) -> None:
    with fake_gpu() as waits:
        value = torch.zeros(3, device=GPU)
        wait(value)
    assert waits[named] == 1
    with fake_gpu() as waits, pytest.raises(TypeError, match="no NumPy array"):
        torch.zeros(3, device=GPU).numpy()


def test_a_copy_is_counted_while_measuring() -> None:
    with fake_gpu() as waits, torch.inference_mode():
        value = torch.zeros(3, device=GPU)
        value.cpu()
        value.to("cpu", torch.float64)
        value.to("cpu", non_blocking=True)
    assert waits == {"cuda → cpu": 2}


def test_what_is_handed_over_is_no_wait() -> None:
    with fake_gpu() as waits:
        value = torch.zeros(3).to(GPU, non_blocking=True)
        (value * 2.0).to("cpu", non_blocking=True)
        assert value[torch.tensor([0, 1]).to(GPU, non_blocking=True)].shape == (2,)
    assert not waits


# ---------------------------------------------------------------------- models
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.names[0])
def test_every_model_is_on_its_device(structure: Structure) -> None:
    """It initialises, computes its loss, bounds, branches and samples there, and waits for none."""
    recipe, shape = structure.recipe, structure.shape
    model = sampled = channels_last(recipe.build(shape))
    if recipe.config.name == "pixelcnn":  # which samples pixel after pixel
        sampled = channels_last(recipe.build((shape[0], 4, 4))).eval()
    with fake_gpu() as waits:
        moved(model)
        images = torch.zeros(COUNT, *shape, dtype=torch.uint8, device=GPU)
        model.initialise(images)
        given = {}
        if hasattr(model, "classes"):
            given["labels"] = torch.zeros(COUNT, dtype=torch.int64, device=GPU)
        if recipe.training.outliers is not None:
            given["outliers"] = images
        waits.clear()
        logged = model.loss(images, 1, **given)
        assert {value.device for value in logged.values()} == {GPU}
        assert not waits
        if structure.names[0] not in MEASURED:
            return
        model.eval()
        for name in ("log_prob", "all_branches", "posteriors"):
            if hasattr(model, name):
                noise = KeyedNoise(0, np.arange(COUNT), GPU)
                found = getattr(model, name)(images, noise=noise)
                assert _devices(found) == {GPU}, name
        assert not waits
        if hasattr(model, "sample") and not hasattr(model, "classes"):
            assert moved(sampled).sample(2).device == GPU


def _devices(found: object) -> set[torch.device]:
    """Of every tensor inside."""
    if isinstance(found, Tensor):
        return {found.device}
    if isinstance(found, dict):
        return _devices(list(found.values()))
    if isinstance(found, list | tuple):
        return set().union(*map(_devices, found))
    return _devices(list(vars(found).values())) if hasattr(found, "__dict__") else set()


# ---------------------------------------------------------------------- detectors
def untrained(job: ResolvedJob, scratch: Path) -> list[nn.Module]:
    """Models of the job with initial weights, and what the detector learns on them."""
    train = job.train.subset(np.arange(min(64, len(job.train))))
    images = torch.from_numpy(np.array(train.images))
    models = []
    for fit in job.fits:
        if fit.recipe is None:
            continue
        model = fit.recipe.build(job.test.shape)
        if hasattr(model, "prepare"):
            model.prepare(torch.from_numpy(np.array(job.train.images)), 0)
        model.initialise(images)
        models.append(channels_last(model).eval())
    detector = job.detector
    if models:
        detector.attach(models)
    if type(detector).learns():
        detector.fit(train, FitContext("cpu", 0, print, scratch))
        detector.load_state_dict(dict(detector.state_dict()))
    return models


def measured(detector: Detector, shape: tuple[int, ...]) -> dict[str, Tensor]:
    images = torch.zeros(COUNT, *shape, dtype=torch.uint8, device=GPU)
    noise = KeyedNoise(0, np.arange(COUNT), GPU)
    with torch.inference_mode():
        if wants_noise(type(detector)):
            return dict(detector.measure(images, noise))
        return dict(detector.measure(images))  # type: ignore[call-arg]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_detector_measures_on_its_device(name: str, tmp_path: Path) -> None:
    job = Subject(DetectorRequest(name), tmp_path / "mock").resolved()
    models = untrained(job, tmp_path)
    with fake_gpu() as waits:
        for model in models:
            moved(model)
        waits.clear()
        found = measured(job.detector, job.test.shape)
        assert all(len(value) == COUNT for value in found.values())
        assert set(waits) == WAITING.get(name, set())
        left = {key for key, value in found.items() if value.device != GPU}
        assert not left or name in COMPRESSING
