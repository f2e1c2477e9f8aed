"""Seeds derived from names, and random draws keyed by image.

Python's `hash` is salted per process, so every seed here is taken from SHA-256 of its name.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on their order."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def training_split(count: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the `limit` of `count` images that are trained on, and of those left out.

    The same for every fit with `Training.max_images` = `limit`, whatever its seed.
    """
    order = np.random.default_rng(derive_seed("subset", count)).permutation(count)
    return np.sort(order[:limit]), np.sort(order[limit:])


class KeyedNoise:
    """Draws keyed by (seed, image index, name): the `Noise` that measuring hands to models.

    A draw depends neither on the batch size nor on which other images are present.  Each image
    has its own Philox stream: key from (seed, name), counter from the index.
    """

    def __init__(
        self, seed: int, indices: np.ndarray, device: torch.device | str = "cpu", prefix: str = ""
    ) -> None:
        self.seed, self.indices, self.device, self.prefix = seed, indices, device, prefix

    def normal(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """(B, *shape) independent N(0, 1), float32."""
        return self._draw(name, shape, normal=True)

    def uniform(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """(B, *shape) independent U[0, 1), float32."""
        return self._draw(name, shape, normal=False)

    def scope(self, name: str) -> KeyedNoise:
        """The same source under another name: independent draws."""
        return KeyedNoise(self.seed, self.indices, self.device, f"{self.prefix}{name}/")

    def rows(self, chosen: slice) -> KeyedNoise:
        """The same draws for some of the images."""
        return KeyedNoise(self.seed, self.indices[chosen], self.device, self.prefix)

    def _draw(self, name: str, shape: tuple[int, ...], *, normal: bool) -> torch.Tensor:
        import torch

        text = f"{self.seed}/{self.prefix}{name}/{'normal' if normal else 'uniform'}"
        key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype=np.uint64)
        out = np.empty((len(self.indices), *shape), dtype=np.float32)
        for row, index in enumerate(self.indices):
            counter = np.array([0, 0, 0, int(index)], dtype=np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
            if normal:
                generator.standard_normal(dtype=np.float32, out=out[row])
            else:
                generator.random(dtype=np.float32, out=out[row])
        return torch.from_numpy(out).to(self.device)
