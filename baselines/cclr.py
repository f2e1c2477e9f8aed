"""Complexity-corrected likelihood ratio: the bound at several noise levels, one against another.

Goodier, Campbell 2023, "Likelihood-based Out-of-Distribution Detection with Denoising Diffusion
Probabilistic Models" (BMVC, arXiv 2310.17432).  Stated in the abstract, which is all of it that
could be read: a ratio of evidence lower bounds of one model at various noising levels, which
corrects for how complex an image is.  Read in a re-implementation for score models (layer6ai-labs/
dgm_ood_detection): the weighted loss up to a share of the time, from 0.1 to 0.66, less that of all
times.  Ours, what follows: what the noise of a level γ' hides is detail, and the bound
    L = L_0 + ½ ∫ E‖ε − ε̂‖² dγ + L_T    is    L = detail + L>γ',  split at γ' = 0 (α = σ),
L>γ' being the bound of the image as noise of that level leaves it.  Detail is what a lossless
code of the image is long with, and L>γ' rises with it among ID images; taken away is what they
let expect:
    CCLR = (L>γ' − a − b · detail) / s,   a, b, s by least squares over training images
higher = more OOD.
Cost per image: S forward passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.denoising import DenoisingDetector
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.seeding import KeyedNoise

SPLIT = 0.0


@register("cclr", cite="arXiv 2310.17432", title="CCLR (diffusion)")
class LevelRatio(DenoisingDetector):
    """L above a level, and what is left of it beside the detail."""

    recipe_variant = "diffusion"
    measure_name = "noise-levels"
    cost = "S f"
    score_patterns: ClassVar[Sequence[str]] = ("CCLR", "L>0")
    unoriented: ClassVar[Mapping[str, str]] = {
        "CCLR": "noise is all detail: beside it, its shape is poorer than an ID image's"
    }

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """detail (B,) and above (B,), nats."""
        import torch

        from oodbench.models.denoising.diffusion import scaled

        assert self.recipe is not None
        model, x = self.model, scaled(images)
        gammas, terms = model.terms(x, noise, self.recipe.measure.importance_samples)
        share = (model.high - model.low) / gammas.shape[1]
        coarse = gammas >= SPLIT
        above = share * torch.where(coarse, terms, 0.0).sum(1) + model.end(x)
        below = share * torch.where(coarse, 0.0, terms).sum(1)
        return {"detail": below + model.reconstruction(images, noise), "above": above}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """The line of `above` over `detail` among training images, and the spread around it."""
        import numpy as np

        detail, above = statistics["detail"], statistics["above"]
        varies = float(detail.var())
        self.slope = float(np.cov(detail, above, bias=True)[0, 1]) / varies if varies else 0.0
        self.start = float(above.mean() - self.slope * detail.mean())
        self.spread = float((above - self.start - self.slope * detail).std()) or 1.0

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The residual in standard deviations, and L>γ' itself."""
        expected = self.start + self.slope * statistics["detail"]
        return {"CCLR": (statistics["above"] - expected) / self.spread, "L>0": statistics["above"]}

    def score_names(self) -> list[str]:
        """The ratio first."""
        return ["CCLR", "L>0"]
