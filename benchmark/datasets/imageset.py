"""A loaded split: one read-only uint8 array with its fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from oodbench.canonical import canonical_json


@dataclass(frozen=True)
class ImageSet:
    """`images` (N, C, H, W) uint8; `fingerprint` is the SHA-256 of shape, transforms and pixels.

    `expected` is the registered number of images, 0 where none is; `note` says what differs.
    """

    name: str
    split: str
    images: np.ndarray
    fingerprint: str
    labels: np.ndarray | None = None
    expected: int = 0
    note: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def dims(self) -> int:
        """D = C·H·W."""
        return math.prod(self.shape)

    def without_labels(self) -> ImageSet:
        """What an unsupervised detector is given."""
        return replace(self, labels=None)


def fingerprint(images: np.ndarray, transforms: Sequence[str]) -> str:
    """SHA-256 over a header of shape and transform names, then the bytes of the array."""
    header = {"shape": list(images.shape), "transforms": list(transforms)}
    hasher = hashlib.sha256(canonical_json(header).encode())
    for start in range(0, len(images), 4096):
        hasher.update(np.ascontiguousarray(images[start : start + 4096]).data)
    return hasher.hexdigest()
