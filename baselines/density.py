"""Models of one log-density: what their detectors share.

The statistic is log p(x) in nats; the score is −log p(x), higher = more OOD, which is known to be
reversed on many pairs (Nalisnick et al. 2019, "Do deep generative models know what they don't
know?", 1810.09136).  Cost per image: one forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from oodbench.detect.detector import Detector

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.canonical_json import JSON
    from oodbench.seeding import KeyedNoise


class Density(Protocol):
    """A model that gives log p(x)."""

    def log_prob(self, images: torch.Tensor, noise: KeyedNoise) -> torch.Tensor:
        """(B,) float64, nats, of uint8 images (B, C, H, W)."""


class BitsPerDim(Detector):
    """A detector whose statistic `log_prob`, (N,) or (N, members) nats, is that of plain images."""

    def diagnose(
        self,
        statistics: Mapping[str, np.ndarray],
        totals: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
    ) -> dict[str, JSON]:
        """Mean bits/dim over images, and over members where there are several."""
        bits = -statistics["log_prob"].mean() / (math.prod(shape) * math.log(2.0))
        return {"bits_per_dim": float(bits), "images": len(statistics["log_prob"])}


class DensityDetector(BitsPerDim):
    """−log p(x) of the recipe's model."""

    cost = "f"
    score_patterns: ClassVar[Sequence[str]] = ("L",)

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = cast(Density, models[0])

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_prob (B,), nats."""
        return {"log_prob": self.model.log_prob(images, noise)}

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """L = −log p(x)."""
        return {"L": -statistics["log_prob"]}

    def score_names(self) -> list[str]:
        """L alone."""
        return ["L"]
