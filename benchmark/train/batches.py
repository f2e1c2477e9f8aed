"""What a training step is given: images, changed as the settings say, their labels, outliers.

The data set is held on the device as uint8 and batched there.  The order of images comes from
(seed, pass); everything else random is drawn from torch's generators, which the training loop seeds
for every step.  Labels and outliers are there only where the model asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oodbench.declare.settings import Augmentation, Outliers, Training
from oodbench.errors import ConfigError
from oodbench.seeding import derive_seed, training_split
from oodbench.train.early_stopping import held_out

WHOLE_PASS_BATCH = 256


@dataclass(frozen=True)
class Supervision:
    """`labels` (N,) of the training images, `outliers` (M, C, H, W) uint8; None: not given."""

    labels: np.ndarray | None = None
    outliers: np.ndarray | None = None


NOTHING = Supervision()


class Feed:
    """The training data of one fit on a device, by step.

    `labels` (N,) int64 of `images` (N, C, H, W) uint8, None where none were handed over;
    `held_out` are those that early stopping watches, where it is asked for.
    """

    held_out: tuple[Tensor, Tensor | None]

    def __init__(
        self,
        images: np.ndarray,
        settings: Training,
        seed: int,
        device: torch.device,
        supervision: Supervision = NOTHING,
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        count, labels = len(images), supervision.labels
        if settings.max_images is not None and settings.max_images < count:
            kept, _ = training_split(count, settings.max_images)
            images, labels = images[kept], None if labels is None else labels[kept]
        if settings.early_stop is not None:
            kept, out = held_out(len(images), settings.early_stop)
            self.held_out = self._pair(images[out], None if labels is None else labels[out])
            images, labels = images[kept], None if labels is None else labels[kept]
        self.images, self.labels = self._pair(images, labels)
        self._outliers = None if supervision.outliers is None else _on(supervision.outliers, device)
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def _pair(self, images: np.ndarray, labels: np.ndarray | None) -> tuple[Tensor, Tensor | None]:
        found = None if labels is None else _on(labels.astype(np.int64), self.device)
        return _on(images, self.device), found

    def check_labels(self, classes: int) -> None:
        """ConfigError where a label is outside 0 … classes − 1."""
        assert self.labels is not None
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= classes:
            few = f"set model.classes to {high + 1} or more in the recipe"
            raise ConfigError(
                f"the labels run from {low} to {high}, but the model has {classes} classes;"
                f" {'number the labels from 0' if low < 0 else few}"
            )

    def _permutation(self, number: int) -> Tensor:
        if self._order[0] != number:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", number))
            order = torch.randperm(len(self.images), generator=generator)
            self._order = (number, order.to(self.device, non_blocking=True))
        return self._order[1]

    def index(self, step: int) -> Tensor:
        """Of `step` (from 0): the stream of shuffled passes, cut into full batches."""
        size, total = self.settings.batch_size, len(self.images)
        start, parts, left = step * size, list[Tensor](), size
        while left:
            number, offset = divmod(start, total)
            index = self._permutation(number)[offset : offset + left]
            parts.append(index)
            start, left = start + len(index), left - len(index)
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def batch(self, step: int) -> Tensor:
        """Images of `step`, uint8 (B, C, H, W), as they are."""
        return self.images[self.index(step)]

    def step(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Images of `step`, changed as the settings say, and what the loss gets beside them."""
        index = self.index(step)
        images = self.images[index]
        if self.settings.augment is not None:
            images = augmented(images, self.settings.augment)
        if self.settings.mutation is not None:
            images = mutated(images, self.settings.mutation)
        given = {} if self.labels is None else {"labels": self.labels[index]}
        if self.settings.outliers is not None:
            given["outliers"] = self._outlier_batch(images, self.settings.outliers)
        return images, given

    def _outlier_batch(self, images: Tensor, settings: Outliers) -> Tensor:
        """`images` mutated, or a draw with replacement from the declared set."""
        if settings.kind == "mutated":
            return mutated(images, settings.rate)
        assert self._outliers is not None
        count = settings.ratio * len(images)
        return self._outliers[torch.randint(0, len(self._outliers), (count,), device=self.device)]

    def each_once(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image with its label, in order, in batches."""
        assert self.labels is not None
        for start in range(0, len(self.images), WHOLE_PASS_BATCH):
            chosen = slice(start, start + WHOLE_PASS_BATCH)
            yield self.images[chosen], self.labels[chosen]


def _on(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(values, order="C")).to(device)


def mutated(images: Tensor, rate: float) -> Tensor:
    """uint8 `images` with every value replaced by a uniform one with probability `rate`.

    Adding a uniform number modulo 256 (Ren et al. 2019, code) is the same in distribution.
    """
    hit = torch.rand(images.shape, device=images.device) < rate
    u = torch.randint(0, 256, images.shape, dtype=torch.uint8, device=images.device)
    return torch.where(hit, u, images)


def augmented(images: Tensor, settings: Augmentation) -> Tensor:
    """uint8 `images` (B, C, H, W), each flipped and moved by a draw of its own."""
    count, _, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    if settings.flip:
        flipped = torch.rand(count, 1, device=device) < 0.5
        columns = torch.where(flipped, width - 1 - columns, columns)
    if settings.shift:
        moves = torch.randint(-settings.shift, settings.shift + 1, (2, count, 1), device=device)
        rows, columns = rows + moves[0], columns + moves[1]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & (
        (columns >= 0) & (columns < width)
    )[:, None, None, :]
    each = torch.arange(count, device=device)[:, None, None]
    at = (rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :])
    moved = images.permute(0, 2, 3, 1)[each, at[0], at[1]].permute(0, 3, 1, 2)
    return torch.where(inside, moved, torch.zeros_like(moved))
