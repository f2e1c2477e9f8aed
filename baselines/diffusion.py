"""A diffusion model as a detector: the negative of its variational bound on log p(x).

Ho, Jain, Abbeel 2020 (arXiv 2006.11239), with the bound in continuous time of Kingma, Salimans,
Poole, Ho 2021 (arXiv 2107.00630, Eqs. 11 to 15): with S levels of noise, one drawn in each of S
equal parts of the range of γ = log σ²/α² and keyed by the image,
    L = L_0 + (γ_max − γ_min)/S · Σ_i ½‖ε_i − ε̂(z_i, γ_i)‖² + L_T      nats
    typicality = |L − H|, H the mean of L over training images (of more than 10,000, a subset)
higher = more OOD.  L is an upper bound of −log p(x) in expectation, whatever S is; S, the recipe's
`measure.importance_samples`, decides how noisy it is.  Stated: the bound and its three terms;
typicality (Nalisnick et al. 2019, arXiv 1906.02994), of batches of images.  Ours: one level in each
part, keyed by the image; the frequencies of the 256 values in L_0; typicality of one image.
Cost per image: S forward passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from oodbench.baselines.density import DensityDetector
from oodbench.baselines.typicality import _Typicality
from oodbench.baselines.vae import BoundedDensity
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import torch


@register("diffusion", cite="arXiv 2006.11239; arXiv 2107.00630", title="Diffusion")
class DiffusionDetector(DensityDetector):
    """The bound of one diffusion model."""

    recipe_variant = "diffusion"
    measure_name = "diffusion-bound"
    cost = "S f"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = BoundedDensity(models[0], self.recipe)


@register("typicality-diffusion", cite="arXiv 1906.02994", title="Typicality (diffusion)")
class TypicalityDiffusion(_Typicality, DiffusionDetector):
    """With the bound of the diffusion model; its fit and measurement are those of `diffusion`."""
