"""MD: the Mahalanobis distance of features to the nearest class.

Lee, Lee, Lee, Shin, NeurIPS 2018 (arXiv 1807.03888): M(x) = min_c ½ (h − μ_c)ᵀ Σ⁻¹ (h − μ_c), h the
spatially averaged features, μ_c and the shared Σ those of the training set
(`oodbench.models.classifiers.class_gaussians`); higher = more OOD.
`mahalanobis` reads the last stage and does not move the input: no OOD image is needed.  The paper
moves the input by ε against the distance's gradient in every stage, and chooses ε and the weights
of the stages with OOD images: `mahalanobis-tuned` prints ε and stages one by one, the best of them
an oracle choice, without weights: what is fitted on OOD test images is no detector.
`oodbench.baselines.mahalanobis_validated` takes another OOD set for both.
`relative-mahalanobis`: M less the distance to the Gaussian of all classes together, Ren et al. 2021
(arXiv 2106.09022).
Cost per image: one forward pass; tuned, with L stages, 2 f + L (7 f + b).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.baselines.grid import Grid
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

EPSILONS = (0.0, 0.0005, 0.001, 0.0014, 0.002, 0.005, 0.01)


def gradient_sign(
    x: torch.Tensor, objective: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """sign(∂ objective / ∂x) of x (B, C, H, W), where the objective (B,) treats images alone."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        free = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(free).sum(), free)
    return gradient.sign()


class LastStage(ClassifierDetector):
    """What the distances in the last stage share: one measurement."""

    measure_name = "mahalanobis"

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K), `distance` and `relative` (B,)."""
        from oodbench.models.classifiers.image_classifier import scaled

        features = self.model.features(scaled(images))[-1]
        gaussian = self.model.stage_gaussians()[-1]
        return {
            "logits": self.model.head(features),
            "distance": gaussian.distance(features),
            "relative": gaussian.relative_distance(features),
        }


@register("mahalanobis", category="labels", cite="arXiv 1807.03888", title="MD")
class Mahalanobis(LastStage):
    """The distance in the last stage."""

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """min_c ½ (h − μ_c)ᵀ Σ⁻¹ (h − μ_c)."""
        return statistics["distance"]


@register("mahalanobis-densenet", category="labels", cite="arXiv 1807.03888", title="MD (DN)")
class MahalanobisDenseNet(Mahalanobis):
    """The same on a DenseNet."""

    recipe_variant = "classifier-densenet"


@register("relative-mahalanobis", category="labels", cite="arXiv 2106.09022", title="Relative MD")
class RelativeMahalanobis(LastStage):
    """The distance less that to all classes together."""

    unoriented = GROWS_WITH_CONTRAST

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """Difference of the distances."""
        return statistics["relative"]


@register("mahalanobis-tuned", category="prior", cite="arXiv 1807.03888", title="MD, grid")
class TunedMahalanobis(Grid, ClassifierDetector):
    """Every ε and stage; the best one is known only with the OOD images."""

    recipe_variant = "classifier-tuned"
    oracle_name = "tuned on OOD: best (ε, stage)"
    measure_name = "mahalanobis-grid"
    cost = "2 f + L (7 f + b)"
    score_patterns: ClassVar[Sequence[str]] = ("MD ε stage", "tuned on OOD: best (ε, stage)")

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K) and `distance` (B, ε × stages), each stage moved by its own gradient."""
        import torch

        from oodbench.models.classifiers.image_classifier import scaled

        x = scaled(images)
        columns = [self.model.distances(x)]
        signs = [
            gradient_sign(x, lambda free, s=stage: self.model.distances(free)[:, s])  # type: ignore[misc]
            for stage in range(self.stages)
        ]
        for epsilon in EPSILONS[1:]:
            moved = [
                self.model.distances(x - epsilon * sign)[:, stage]
                for stage, sign in enumerate(signs)
            ]
            columns.append(torch.stack(moved, dim=1))
        return {"logits": self.model(x), "distance": torch.cat(columns, dim=1)}

    @property
    def stages(self) -> int:
        """L, from the recipe's network."""
        assert self.recipe is not None
        network = self.recipe.config.network  # type: ignore[attr-defined]
        return int(network.stages)

    def grid(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The distance at every ε in every stage."""
        return dict(zip(self.grid_names(), statistics["distance"].T, strict=True))

    def grid_names(self) -> list[str]:
        """One name for every ε and stage."""
        return [f"MD ε={e:g} stage {s + 1}" for e, s in product(EPSILONS, range(self.stages))]
