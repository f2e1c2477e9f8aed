"""Early stopping: training ends where held-out images have not been explained better for long.

A seeded part of the training images is kept out of training.  After every epoch the model that
would be kept, the average of the weights where there is one, gives its loss on them, always with
the same draws.  Only the moment of stopping follows from it: the last weights are kept, not the
best, and no image but of the ID training set is seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from oodbench.errors import ConfigError
from oodbench.seeding import derive_seed
from oodbench.settings import EarlyStop

if TYPE_CHECKING:
    from oodbench.training import Trainable, TrainingRun


def held_out(images: np.ndarray, settings: EarlyStop) -> tuple[np.ndarray, np.ndarray]:
    """`images` (N, C, H, W) without the held-out ones, and those; the same for every seed.

    ConfigError where fewer than one image would be left to train on.
    """
    count, kept = len(images), len(images) - settings.images
    if kept < 1:
        raise ConfigError(
            f"training.early_stop.images holds out {settings.images:,} of {count:,} training"
            " images; hold out fewer"
        )
    order = np.random.default_rng(derive_seed("held out", count)).permutation(count)
    return images[np.sort(order[:kept])], images[np.sort(order[kept:])]


class Watch:
    """What the held-out images (N, C, H, W), uint8 on the training's device, say of a run."""

    def __init__(self, settings: EarlyStop, images: Tensor, batch_size: int, seed: int) -> None:
        self.settings, self.images, self.batch_size = settings, images, batch_size
        self.seed = derive_seed(seed, "held out")

    @torch.no_grad()
    def loss(self, model: nn.Module, average: Mapping[str, Tensor] | None, epoch: int) -> float:
        """Mean loss of the held-out images, nats, with the averaged weights where there are any.

        Weights, mode and torch's generators are as before afterwards.
        """
        own = {name: value.clone() for name, value in model.state_dict().items()}
        if average is not None:
            model.load_state_dict(average)
        model.eval()
        total = 0.0
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            for batch in torch.split(self.images, self.batch_size):
                found = cast("Trainable", model).loss(batch, epoch)["loss"]
                total += float(found) * len(batch)
        model.load_state_dict(own)
        model.train()
        return total / len(self.images)

    def note(self, loss: float, state: TrainingRun) -> None:
        """Count the epochs since the best loss; a loss that is not a number is no better one."""
        if loss < (math.inf if state.best is None else state.best):
            state.best, state.waited = loss, 0
        else:
            state.waited += 1

    def over(self, state: TrainingRun) -> bool:
        """Whether the best loss is more than `patience` epochs old."""
        return state.waited > self.settings.patience
