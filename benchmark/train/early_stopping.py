"""Early stopping: training ends where held-out images have not been explained better for long.

A seeded part of the training images is kept out of training.  After every epoch the model that
would be kept, the average of the weights where there is one, gives its loss on them, always with
the same draws.  The loss is that of the last epoch planned: where warm-up, free bits or a prefit
change what is minimised, losses of two epochs are comparable only by what is minimised in the end.
Only the moment of stopping follows from it: the last weights are kept, not the
best, and no image but of the ID training set is seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from oodbench.declare.settings import EarlyStop
from oodbench.errors import ConfigError
from oodbench.seeding import derive_seed

if TYPE_CHECKING:
    from oodbench.train.run_state import TrainingRun
    from oodbench.train.trainable import Trainable


def held_out(count: int, settings: EarlyStop) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the images that are trained on, and of those held out, for every seed.

    ConfigError where fewer than one image of `count` would be left to train on.
    """
    if settings.images >= count:
        raise ConfigError(
            f"training.early_stop.images holds out {settings.images:,} of {count:,} training"
            " images; hold out fewer"
        )
    order = np.random.default_rng(derive_seed("held out", count)).permutation(count)
    kept = count - settings.images
    return np.sort(order[:kept]), np.sort(order[kept:])


class Watch:
    """What the held-out images (N, C, H, W), uint8 on the training's device, say of a run.

    `held_out`: the images, and their labels (N,) for a model that learns from labels.
    """

    def __init__(
        self,
        settings: EarlyStop,
        held_out: tuple[Tensor, Tensor | None],
        batch_size: int,
        seed: int,
    ) -> None:
        self.settings, self.batch_size = settings, batch_size
        self.images, self.labels = held_out
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
            for start in range(0, len(self.images), self.batch_size):
                chosen = slice(start, start + self.batch_size)
                batch = self.images[chosen]
                given = {} if self.labels is None else {"labels": self.labels[chosen]}
                found = cast("Trainable", model).loss(batch, epoch, **given)["loss"]
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
