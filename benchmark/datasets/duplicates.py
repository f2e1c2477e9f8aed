"""Images that stand in two sets: exact copies, found by a hash of their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

#: Bytes of one image's hash: too many for two images of any set to share one by chance.
SIZE = 16


def image_hashes(images: np.ndarray) -> bytes:
    """The hashes (BLAKE2b, SIZE bytes each) of images (N, C, H, W) uint8, one after another."""
    return b"".join(hashlib.blake2b(image.tobytes(), digest_size=SIZE).digest() for image in images)


def count_copies(images: bytes, others: bytes) -> int:
    """How many of `images` are also among `others`; both as `image_hashes` gives them."""
    wanted = set(_each(images))
    met = {one for one in _each(others) if one in wanted}
    return sum(one in met for one in _each(images))


def _each(hashes: bytes) -> Iterator[bytes]:
    return (hashes[start : start + SIZE] for start in range(0, len(hashes), SIZE))
