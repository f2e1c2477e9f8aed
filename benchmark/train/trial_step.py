"""What a training will take, from one step of it: seconds by the speed here, and memory.

Nothing is kept.  Memory counts what the step keeps for its way back, for a whole batch, and the
weights four times (themselves, their gradient, and the two moments of Adam).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from oodbench.declare.settings import Training
from oodbench.train.trainable import Classifying, Preparable, Trainable

#: Images of the step: 2, or more that hold so many numbers together.
LEAST, NUMBERS = 2, 1 << 16
#: Seconds of a first step that is not repeated.
SLOW = 2.0


@dataclass(frozen=True)
class Estimate:
    """`seconds` per image trained on, `bytes` at the peak of a step."""

    seconds: float
    bytes: int


def estimate(
    build: Callable[[], nn.Module], shape: tuple[int, int, int], settings: Training, device: str,
    *, labelled: bool, outliers: bool,
) -> Estimate | None:  # fmt: skip
    """Of a step on drawn images of `shape`; None of a model that prepares something first."""
    count = min(settings.batch_size, max(LEAST, NUMBERS // math.prod(shape)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().to(device).train()
        images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, device=device)
        given: dict[str, Tensor] = {}
        if labelled:
            classes = cast(Classifying, model).classes
            given["labels"] = torch.arange(count, device=device) % classes
        if outliers:
            given["outliers"] = images.flip(0)
        if hasattr(model, "prepare"):
            try:
                cast(Preparable, model).prepare(images, 0)
            except ValueError:  # its teacher needs more images than a step has
                return None
        trained = cast(Trainable, model)
        trained.initialise(images)
        kept: dict[int, int] = {}
        started = time.monotonic()
        with _counted(kept):
            torch.autograd.backward(trained.loss(images, 1, **given)["loss"])
        seconds = (time.monotonic() - started) / count
        if seconds * count < SLOW:  # the first step also sets things up
            started = time.monotonic()
            torch.autograd.backward(trained.loss(images, 1, **given)["loss"])
            float(next(model.parameters()).detach().flatten()[0])  # a GPU is waited for
            seconds = (time.monotonic() - started) / count
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return Estimate(seconds, 4 * weights + sum(kept.values()) * settings.batch_size // count)


@contextmanager
def _counted(kept: dict[int, int]) -> Iterator[None]:
    """The bytes of every storage that is kept for the way back, by its address."""

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield
