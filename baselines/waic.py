"""WAIC: a likelihood that an ensemble must agree on.

Choi, Jang, Alemi 2018 (arXiv 1810.01392): with M models that differ in seed and order of the data,
    WAIC(x) = E_m[log p_m(x)] − Var_m[log p_m(x)],  nats;  score = −WAIC, higher = more OOD.
The variance is that of the M values (divided by M).  It is quadratic in the unit of log p, so that
bits/dim would give another ranking; nats per image are used, as published.
Cost per image: M times the model's.  The members are the fits that other detectors on the same
recipe use; a variant of its own lets an ensemble be measured on a subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.baselines.density import BitsPerDim, Density
from oodbench.baselines.vae import BoundedDensity
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.seeding import KeyedNoise


class WAIC(BitsPerDim):
    """The score on any model that gives log p(x)."""

    cost = "5 f"
    members = 5
    score_patterns = ("-WAIC", "mean", "variance")

    def density(self, model: torch.nn.Module) -> Density:
        """The log-density of a member."""
        return cast(Density, model)

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the members."""
        self.models = [self.density(model) for model in models]

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_prob (B, M), nats; every member has draws of its own."""
        import torch

        parts = [
            model.log_prob(images, noise.scope(f"member{index}"))
            for index, model in enumerate(self.models)
        ]
        return {"log_prob": torch.stack(parts, dim=1)}

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """−WAIC, and its two parts oriented alike: −mean and variance."""
        import numpy as np

        log_prob = statistics["log_prob"]
        mean, variance = log_prob.mean(axis=1), log_prob.var(axis=1)
        return {
            "-WAIC": np.asarray(variance - mean),
            "mean": np.asarray(-mean),
            "variance": np.asarray(variance),
        }

    def score_names(self) -> list[str]:
        """The three."""
        return ["-WAIC", "mean", "variance"]


@register("waic-glow", category="ensemble", cite="arXiv 1810.01392", title="WAIC (5 Glow)")
class WAICGlow(WAIC):
    """Five Glows."""

    recipe_variant = "glow-ensemble"
    measure_name = "waic"


@register("waic-pixelcnn", category="ensemble", cite="arXiv 1810.01392", title="WAIC (5 PC++)")
class WAICPixelCNN(WAIC):
    """Five PixelCNN++."""

    recipe_variant = "pixelcnn-ensemble"
    measure_name = "waic"


@register("waic-vae", category="ensemble", cite="arXiv 1810.01392", title="WAIC (5 VAE)")
class WAICVAE(WAIC):
    """Five convolutional VAEs, by their importance-weighted bounds."""

    recipe_variant = "vae-ensemble"
    measure_name = "waic"
    cost = "5 (e + S g)"

    def density(self, model: torch.nn.Module) -> Density:
        """Its importance-weighted bound."""
        return BoundedDensity(model, self.recipe)
