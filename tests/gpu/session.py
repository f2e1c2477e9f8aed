"""What the parts of a run share: device, sizes, images, time that is left, and where results go."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import find_places, load
from oodbench.declare.recipes import Recipe, find_recipe, resolve
from oodbench.detect.detector import DETECTORS, Detector
from oodbench.flow.attach import trained
from oodbench.progress import Progress
from oodbench.train.training import Runtime, train

QUIET = Progress("quiet")


@dataclass(frozen=True)
class Sizes:
    """`images` are measured, `steps` trained, `samples` the S of L, `seconds` a thing is timed."""

    scale: str
    images: int
    steps: int
    samples: int
    seconds: float
    epochs: int | None = None


#: For a card: the recipes of the papers.
FULL = Sizes("paper", images=500, steps=100, samples=1000, seconds=4.0)
#: For a processor, in seconds: every line runs, no figure means anything.
TINY = Sizes("smoke", images=12, steps=2, samples=2, seconds=0.0, epochs=1)


class TimeUpError(BaseException):
    """A part has used its share of the time; nothing on the way takes it for a failure."""


@dataclass
class Session:
    """One run.  Every result is a line of `out`/results.jsonl, on the disk before the next."""

    device: str
    sizes: Sizes
    out: Path
    ends: float
    data: tuple[str, ...] = ()
    reference: Path | None = None
    part: str = ""
    missed: list[str] = field(default_factory=list)

    def write(self, what: str, **figures: JSON) -> None:
        """Add a result and print it."""
        row: dict[str, JSON] = {"part": self.part, "what": what, **figures}
        with (self.out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        values = ", ".join(f"{name} {_text(value)}" for name, value in figures.items())
        print(f"{self.part}. {what}: {values}", flush=True)

    def bar(self, what: str, met: bool | None, **figures: JSON) -> None:
        """A result that has to be so; None where it cannot be told here."""
        if met is False:
            self.missed.append(f"{self.part}. {what}")
        self.write(what, met=met, **figures)

    @property
    def left(self) -> float:
        """Seconds until the run has to be over."""
        return self.ends - time.monotonic()

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type == "cuda"

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def folder(self, name: str) -> Path:
        """An empty folder for what a part leaves behind."""
        path = self.out / name
        path.mkdir(parents=True)
        return path

    # ------------------------------------------------------------------ models and images
    def recipe(self, name: str, variant: str, more: Mapping[str, JSON] | None = None) -> Recipe:
        """A recipe at this run's scale."""
        return resolve(find_recipe(name), self.sizes.scale, variant, dict(more or {}))

    def images(self, name: str, split: str, count: int) -> np.ndarray:
        """(count, C, H, W) uint8, the first of a data set."""
        found = load(name, split, find_places(self.data, str(self.out / "store")))
        return np.array(found.images[:count])

    def shape(self, name: str) -> tuple[int, int, int]:
        """Of the images that a recipe is made for."""
        return find_recipe(name).shape

    def train(
        self, recipe: Recipe, images: np.ndarray, epochs: int, folder: str
    ) -> torch.nn.Module:
        """A model that has seen `images` so often, on the device."""
        settings = recipe.training.model_copy(
            update={"epochs": epochs, "epoch_images": None, "max_images": None}
        )
        shape = cast("tuple[int, int, int]", images.shape[1:])
        model, _ = train(
            lambda: recipe.build(shape), images, settings, seed=0, scratch=self.folder(folder),
            runtime=Runtime(self.device), progress=QUIET,
        )  # fmt: skip
        return model

    def detector(
        self, name: str, recipe: Recipe, weights: Mapping[str, torch.Tensor],
        shape: tuple[int, int, int], device: str,
    ) -> Detector:  # fmt: skip
        """A detector with a model of these weights on `device`."""
        found = DETECTORS.get(name)()
        found.recipe = recipe
        found.attach([trained(recipe, shape, weights, device)])
        return found


def on_host(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its weights, on the CPU."""
    return {name: value.detach().cpu() for name, value in model.state_dict().items()}


def noise_images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(count, C, H, W) uint8 for timing: speed does not depend on what is in them."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def rate(
    step: Callable[[], Any], images: int, session: Session, least: int = 2, warm: bool = True
) -> float:
    """Images a second of `step`, which takes `images`, over the seconds of this run.

    `warm`: after a step that is not counted.
    """
    if warm:
        step()
    session.wait()
    start, done = time.perf_counter(), 0
    while done < least or time.perf_counter() - start < session.sizes.seconds:
        step()
        done += 1
        if done % 10 == 0 or done < least:
            session.wait()  # the host must not run ahead by more than a few steps
    session.wait()
    return images * done / (time.perf_counter() - start)


def _text(value: JSON) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
