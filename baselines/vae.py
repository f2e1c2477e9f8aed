"""The convolutional VAE as a detector: −log p(x) by its importance-weighted bound.

The VAE of Xiao, Yan, Amit 2020 (arXiv 2003.02977), the base of Likelihood Regret, WAIC (5 VAE) and
LR (VAE); higher = more OOD.  Cost per image: one encoder pass, S decoder passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from oodbench.baselines.density import DensityDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import torch

    from oodbench.declare.recipes import Recipe
    from oodbench.seeding import KeyedNoise


class Sampled(Protocol):
    """A model whose log p(x) is a bound with S importance samples."""

    def log_prob(self, images: torch.Tensor, noise: KeyedNoise, samples: int) -> torch.Tensor:
        """(B,) float64, nats, of uint8 images (B, C, H, W)."""


class BoundedDensity:
    """A `Density` out of a `Sampled` model: S is the recipe's `measure.importance_samples`."""

    def __init__(self, model: torch.nn.Module, recipe: Recipe | None) -> None:
        assert recipe is not None
        self.model, self.samples = cast(Sampled, model), recipe.measure.importance_samples

    def log_prob(self, images: torch.Tensor, noise: KeyedNoise) -> torch.Tensor:
        """(B,) float64, nats, of uint8 images (B, C, H, W)."""
        return self.model.log_prob(images, noise, self.samples)


@register("vae", cite="arXiv 2003.02977", title="VAE")
class VAEDetector(DensityDetector):
    """The bound of one VAE."""

    recipe_variant = "vae"
    cost = "e + S g"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = BoundedDensity(models[0], self.recipe)
