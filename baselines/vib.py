"""VIB: the rate of a classifier with an information bottleneck.

Alemi, Fischer, Dillon 2018 (arXiv 1807.00906).  Score = KL(q(z|x) ‖ r(z)), nats, higher = more OOD;
`vib`: r = N(0, I), `vib-mixture`: r a trained mixture, by 64 samples of q.  Cost per image: one
forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.baselines.classifier import ClassifierDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.models.classifiers.mixture_vib import MixtureVIBClassifier
    from oodbench.models.classifiers.vib import VIBClassifier
    from oodbench.seeding import KeyedNoise

SAMPLES = 64


@register("vib", category="labels", cite="arXiv 1612.00410; arXiv 1807.00906", title="VIB")
class VIB(ClassifierDetector):
    """The rate."""

    recipe_variant = "vib"
    measure_name = "vib"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the classifier."""
        self.bottleneck = models[0]

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """rate (B,), nats; logits (B, K) at the mean of q(z|x)."""
        model = cast("VIBClassifier", self.bottleneck)
        q = model.posterior(images)
        return {"rate": model.rate(q), "logits": model.head(q.mean)}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """The rate."""
        return statistics["rate"]


@register("vib-mixture", category="prior", cite="arXiv 1807.00906", title="VIB (mixture)")
class MixtureVIB(VIB):
    """The rate against a trained mixture.

    Of the category `prior`: the recipes' weight of the rate was chosen with OOD images of no pair
    (tests/experiments/choose_vib_rate_weight.py).
    """

    recipe_variant = "vib-mixture"
    measure_name = "vib-mixture"

    def measure(  # type: ignore[override]
        self, images: torch.Tensor, noise: KeyedNoise
    ) -> dict[str, torch.Tensor]:
        """rate (B,), nats, mean over samples; logits (B, K) at the mean of q(z|x)."""
        model = cast("MixtureVIBClassifier", self.bottleneck)
        q = model.posterior(images)
        drawn = noise.normal("z", (SAMPLES, q.mean.shape[1])).transpose(0, 1)
        _, rates = model.sample(q, drawn)
        return {"rate": rates.mean(0), "logits": model.head(q.mean)}
