"""Pictures from stored weights: partial decodes, draws, samples, posterior means, on the CPU.

A fit holds its model's whole configuration, so that the network is built as it was trained, even
where a recipe has changed since.  Every draw is keyed by (seed, image index) as in measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from oodbench.errors import ConfigError
from oodbench.flow.stored.models import load_model
from oodbench.seeding import KeyedNoise, derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from oodbench.store.store import Entry

BATCH = 100


class Hierarchical(Protocol):
    """A hierarchical VAE as far as pictures need it."""

    layers: int

    def reconstruct(self, images: Tensor, k: int, noise: KeyedNoise, lower: str) -> Tensor:
        """Mean of p(x|z>k), (B, C, H, W) in [0, 1]; k = L draws every z from the prior."""
        ...

    def layer_means(self, images: Tensor, noise: KeyedNoise) -> list[Tensor]:
        """Posterior means (B, units) of every layer."""
        ...


class Fitted:
    """The model of a fit, for images of `shape` (C, H, W).

    Raises ConfigError where it is not a hierarchical VAE, StoreError where it was made by other
    code than today's.
    """

    def __init__(self, fit: Entry, shape: tuple[int, int, int]) -> None:
        import torch

        model = load_model(fit, shape)
        name = fit.parts["model"]
        if not all(hasattr(model, method) for method in ("layers", "reconstruct", "layer_means")):
            raise ConfigError(
                f"a model of kind {name!r} has no layers to decode from; this figure takes"
                " hierarchical VAEs such as vanilla-hvae and informative-hvae"
            )
        self.model, self.shape = cast(Hierarchical, model), shape
        self._torch = torch

    @property
    def layers(self) -> int:
        """L."""
        return self.model.layers

    def reconstructions(self, images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """(1 + L, n, C, H, W) in [0, 1]: the images, then the means of p(x|z>k), k = 0 … L − 1.

        `indices` (n,) of `images` (N, C, H, W) uint8.  z>k is drawn from q, z≤k is the mean of p.
        """
        chosen = images[indices]
        noise = KeyedNoise(derive_seed("figure", "reconstructions"), indices)
        x = self._tensor(chosen)
        decoded = [self.model.reconstruct(x, k, noise, "mode") for k in range(self.layers)]
        return np.stack([chosen / 255.0, *map(self._numpy, decoded)])

    def draws(self, image: np.ndarray, count: int) -> np.ndarray:
        """(1 + L, `count`, C, H, W): the image (C, H, W) once, then `count` draws for every k.

        A draw takes z>k from q and z≤k from p, all sampled, and is the mean of p(x|z1) given them.
        """
        rows = np.full((1 + self.layers, count, *self.shape), np.nan)
        rows[0, 0] = image / 255.0
        noise = KeyedNoise(derive_seed("figure", "draws"), np.arange(count))
        copies = self._tensor(np.repeat(image[None], count, axis=0))
        for k in range(self.layers):
            rows[1 + k] = self._numpy(self.model.reconstruct(copies, k, noise, "sample"))
        return rows

    def samples(self, count: int) -> np.ndarray:
        """(`count`, C, H, W) in [0, 1]: z from the prior, and the means of p(x|z1) given it."""
        noise = KeyedNoise(derive_seed("figure", "prior"), np.arange(count))
        if hasattr(self.model, "prior_means"):
            return self._numpy(self.model.prior_means(count, noise))
        # The branch k = L takes nothing from q, so that any images do.
        blank = self._torch.zeros((count, *self.shape), dtype=self._torch.uint8)
        return self._numpy(self.model.reconstruct(blank, self.layers, noise, "sample"))

    def layer_means(self, images: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
        """Posterior means (n, units) of layer 1 … L, the layers below at their means."""
        parts: list[Sequence[np.ndarray]] = []
        for start in range(0, len(indices), BATCH):
            index = indices[start : start + BATCH]
            noise = KeyedNoise(derive_seed("figure", "means"), index)
            means = self.model.layer_means(self._tensor(images[index]), noise)
            parts.append([self._numpy(mean) for mean in means])
        return [np.concatenate(layer) for layer in zip(*parts, strict=True)]

    def _tensor(self, images: np.ndarray) -> Tensor:
        return self._torch.from_numpy(np.ascontiguousarray(images))

    @staticmethod
    def _numpy(tensor: Tensor) -> np.ndarray:
        return np.asarray(tensor.detach().double().numpy())
