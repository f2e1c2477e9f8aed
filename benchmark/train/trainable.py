"""What the training loop asks of a model, beside being an nn.Module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from torch import Tensor


class Trainable(Protocol):
    """What every model has."""

    def initialise(self, images: Tensor) -> None:
        """Data-dependent initialisation on the first batch, uint8 (B, C, H, W)."""

    def loss(self, images: Tensor, epoch: int, **given: Tensor) -> dict[str, Tensor]:
        """``loss`` (scalar, nats per image) and what to log beside it; `epoch` from 1.

        `given`: ``labels`` (B,) int64 and ``outliers`` (M, C, H, W) uint8, where handed over.
        """


@runtime_checkable
class Completable(Protocol):
    """A model that takes a last look at its training images when its weights are final."""

    def complete(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Images (B, C, H, W) uint8 and their labels (B,), each training image once."""


class Classifying(Protocol):
    """A model that is trained with labels 0 … classes − 1."""

    classes: int


class Preparable(Protocol):
    """A model that fits something fixed, such as a teacher, before its weights are trained."""

    def prepare(self, images: Tensor, seed: int) -> None:
        """Fit it on all training images, uint8 (N, C, H, W); what it gives are buffers.

        ValueError where the images do not do.
        """
