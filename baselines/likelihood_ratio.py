"""Likelihood ratio against a background model of mutated images.

Ren et al., NeurIPS 2019 (arXiv 1906.02845): θ0 has the architecture of θ and is trained on images
whose values are replaced by uniform ones with probability μ, with weight decay λ;
    LLR(x) = log p_θ(x) − log p_θ0(x),  nats;  score = −LLR, higher = more OOD.
μ and λ are fixed here (0.3 and 0 for grey images, 0.1 and 10 for colour), so that no OOD image is
needed; `lr-pixelcnn-grid` prints the published grid, its best point an oracle choice, and
`lr-pixelcnn-validated` chooses from it with a second OOD set, as the paper does: both of category
prior.  LR (BC) takes the logit of a classifier of training images against mutated ones for the
ratio.
Cost per image: two forward passes; one for LR (BC).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from oodbench.baselines.density import BitsPerDim, Density
from oodbench.baselines.grid import ChosenOnValidation, Grid
from oodbench.baselines.vae import BoundedDensity
from oodbench.detect.detector import Detector, register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.models.classifiers.mutation_classifier import MutationClassifier
    from oodbench.seeding import KeyedNoise

GRID = tuple((rate, decay) for rate in ("0.1", "0.2", "0.3") for decay in ("0", "10", "100"))


class LikelihoodRatio(BitsPerDim):
    """The score on any density with background models as companions."""

    cost = "2 f"
    measure_name = "likelihood-ratio"
    score_patterns: ClassVar[Sequence[str]] = ("LR",)
    companions: ClassVar[Sequence[str]] = ("background",)

    def density(self, model: torch.nn.Module) -> Density:
        """The log-density of a trained model."""
        return cast(Density, model)

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the model and its backgrounds."""
        self.foreground, *self.backgrounds = map(self.density, models)

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_prob (B,) and background (B, K), nats; the models share their draws."""
        import torch

        background = [model.log_prob(images, noise) for model in self.backgrounds]
        return {
            "log_prob": self.foreground.log_prob(images, noise),
            "background": torch.stack(background, dim=1),
        }

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """−LLR."""
        return {"LR": self.ratios(statistics)[:, 0]}

    def ratios(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N, K): −LLR against every background."""
        found: np.ndarray = statistics["background"] - statistics["log_prob"][:, None]
        return found

    def score_names(self) -> list[str]:
        """LR alone."""
        return ["LR"]


@register("lr-pixelcnn", cite="arXiv 1906.02845", title="LR (PC)")
class PixelCNNRatio(LikelihoodRatio):
    """The small PixelCNN of Ren et al., μ and λ fixed."""

    recipe_variant = "lr-pixelcnn"
    companions = ("lr-pixelcnn-background",)


@register("lr-vae", cite="arXiv 1906.02845; arXiv 2003.02977", title="LR (VAE)")
class VAERatio(LikelihoodRatio):
    """The convolutional VAE, whose fit `vae` shares; μ = 0.2 as in the code of Xiao et al."""

    recipe_variant = "vae"
    companions = ("vae-background",)
    cost = "2 (e + S g)"

    def density(self, model: torch.nn.Module) -> Density:
        """Its importance-weighted bound."""
        return BoundedDensity(model, self.recipe)


@register("lr-pixelcnn-grid", category="prior", cite="arXiv 1906.02845", title="LR (PC), grid")
class PixelCNNRatioGrid(Grid, LikelihoodRatio):
    """All nine (μ, λ) of the published grid."""

    recipe_variant = "lr-pixelcnn"
    companions = tuple(f"lr-pixelcnn-m{rate}-l{decay}" for rate, decay in GRID)
    cost = "10 f"
    score_patterns: ClassVar[Sequence[str]] = ("LR μ λ", "best (μ, λ)")
    oracle_name = "best (μ, λ)"

    def grid(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """−LLR at every point."""
        return dict(zip(self.grid_names(), self.ratios(statistics).T, strict=True))

    def grid_names(self) -> list[str]:
        """One name for every point of the grid."""
        return [f"LR μ={rate} λ={decay}" for rate, decay in GRID]


@register(
    "lr-pixelcnn-validated", category="prior", cite="arXiv 1906.02845", title="LR (PC), validated"
)
class PixelCNNRatioValidated(ChosenOnValidation, PixelCNNRatioGrid):
    """The point of the grid that is best on the validation set."""

    recipe_variant = "lr-pixelcnn-validated"
    score_patterns = ("LR",)
    chosen_name = "LR"


@register("lr-bc", cite="arXiv 1906.02845", title="LR (BC)")
class ClassifierRatio(Detector):
    """The logit of a binary classifier for the ratio."""

    recipe_variant = "lr-bc"
    cost = "f"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the classifier."""
        self.model = cast("MutationClassifier", models[0])

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logit (B,): log-odds of being a training image."""
        return {"logit": self.model.logit(images)}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """−logit."""
        return -statistics["logit"]
