"""A loaded split: one read-only uint8 array with its fingerprint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oodbench.canonical_json import canonical_json
from oodbench.datasets.duplicates import image_hashes


def unchecked() -> None:
    """Images that were not read from the cache have nothing to be checked against."""


@dataclass(frozen=True)
class ImageSet:
    """`images` (N, C, H, W) uint8; `fingerprint` is the SHA-256 of shape, transforms and pixels.

    `expected` is the registered number of images, 0 where none is; `note` says what differs.
    `groups` (N,) int64: images that share a number depend on each other (frames of one video).
    `unlabelled` says why labels that are there are not used; `values` are the numbers that were
    taken as black and white where the pixels were not 8-bit.
    `verify()` reads all pixels and raises DamagedEntryError where they are not those of the
    fingerprint; whoever computes something that is kept calls it first.  `hashes()` gives what
    `oodbench.datasets.duplicates.image_hashes` does, read again where it is stored.
    """

    name: str
    split: str
    images: np.ndarray
    fingerprint: str
    labels: np.ndarray | None = None
    expected: int = 0
    note: str = ""
    groups: np.ndarray | None = None
    unlabelled: str = ""
    values: tuple[float, float] | None = None
    verify: Callable[[], None] = field(default=unchecked, compare=False, repr=False)
    stored_hashes: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)

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

    def hashes(self) -> bytes:
        """The hash of every image's pixels."""
        return image_hashes(self.images) if self.stored_hashes is None else self.stored_hashes()

    def subset(self, indices: np.ndarray) -> ImageSet:
        """The images at `indices`, a copy with a fingerprint of its own."""
        images = np.ascontiguousarray(self.images[indices])
        labels = None if self.labels is None else self.labels[indices]
        return replace(
            self,
            images=images,
            labels=labels,
            groups=None if self.groups is None else self.groups[indices],
            fingerprint=fingerprint(images, ()),
            stored_hashes=None,
        )

    def without_labels(self) -> ImageSet:
        """What an unsupervised detector is given."""
        return replace(self, labels=None)


def label_fingerprint(labels: np.ndarray | None) -> str | None:
    """SHA-256 of labels (N,), None where there are none."""
    if labels is None:
        return None
    header = canonical_json({"shape": list(labels.shape), "dtype": labels.dtype.str})
    return hashlib.sha256(header.encode() + np.ascontiguousarray(labels).tobytes()).hexdigest()


def fingerprint(images: np.ndarray, transforms: Sequence[str]) -> str:
    """SHA-256 over a header of shape and transform names, then the bytes of the array."""
    header = {"shape": list(images.shape), "transforms": list(transforms)}
    hasher = hashlib.sha256(canonical_json(header).encode())
    for start in range(0, len(images), 4096):
        hasher.update(np.ascontiguousarray(images[start : start + 4096]).data)
    return hasher.hexdigest()
