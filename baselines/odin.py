"""ODIN: temperature, and a step of the input towards the predicted class.

Liang, Li, Srikant, ICLR 2018 (arXiv 1706.02690), Eq. 1 and 2: with logits f and y* = argmax f(x),
    x' = x − ε · sign(∇_x CE(f(x)/T, y*)),   score = 1 − max_y softmax(f(x')/T)_y,
higher = more OOD; x in [0, 1], so that ε is in units of the pixels, whatever the network's scaling.
`odin` takes T = 1000, ε = 0.0014, for which no OOD image is needed.  The paper chose T and ε with
OOD images: `odin-tuned` prints a grid, its best point an oracle choice; `odin-validated` chooses
from it on another OOD set, which the recipe declares.
pytorch-ood takes the step; its softmax is not used, since 1 − max rounds away near certainty.
Cost per image: three forward passes, one of them for the diagnosis, and a backward pass; with the
grid 4 (f + b) + 13 f.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from oodbench.baselines.classifier import GROWS_WITH_CONTRAST, ClassifierDetector
from oodbench.baselines.grid import ChosenOnValidation, Grid
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.models.classifiers.image_classifier import ImageClassifier

TEMPERATURE, EPSILON = 1000.0, 0.0014
TEMPERATURES = (1.0, 10.0, 100.0, 1000.0)
EPSILONS = (0.0, 0.0014, 0.0028)


def perturbation(model: ImageClassifier, x: torch.Tensor, temperature: float) -> torch.Tensor:
    """sign(∇_x CE(f(x)/T, argmax f(x))) of x (B, C, H, W) in [0, 1]."""
    import torch
    from pytorch_ood.detector import odin_preprocessing
    from torch.nn import functional as F

    with torch.inference_mode(False):
        moved = odin_preprocessing(
            # float64: near certainty the error's gradient vanishes in float32.
            lambda free: model(free).double(),
            x,
            criterion=partial(F.cross_entropy, reduction="sum"),
            eps=1.0,
            temperature=temperature,
        )
    # The step without its rounding: −1, 0 or 1.
    sign: torch.Tensor = (x - moved).round()
    return sign


@register("odin", category="labels", cite="arXiv 1706.02690", title="ODIN")
class ODIN(ClassifierDetector):
    """T = 1000, ε = 0.0014."""

    unoriented = GROWS_WITH_CONTRAST
    measure_name = "odin"
    cost = "3 f + b"

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K) of the images, `moved` (B, K) of their perturbations."""
        from oodbench.models.classifiers.image_classifier import scaled

        x = scaled(images)
        moved = x - EPSILON * perturbation(self.model, x, TEMPERATURE)
        return {"logits": self.model(x), "moved": self.model(moved)}

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """1 − max_y softmax(f(x')/T)_y."""
        from oodbench.baselines.softmax_scores import doubt

        return doubt(statistics["moved"] / TEMPERATURE)


@register("odin-tuned", category="prior", cite="arXiv 1706.02690", title="ODIN, grid")
class TunedODIN(Grid, ClassifierDetector):
    """All points of the grid; the best one is known only with the OOD images."""

    unoriented = GROWS_WITH_CONTRAST
    recipe_variant = "classifier-tuned"
    oracle_name = "tuned on OOD: best (T, ε)"
    measure_name = "odin-grid"
    cost = "4 (f + b) + 13 f"
    score_patterns: ClassVar[Sequence[str]] = ("ODIN T ε", "tuned on OOD: best (T, ε)")

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """logits (B, K), and those of the perturbations of every point of the grid in turn."""
        import torch

        from oodbench.models.classifiers.image_classifier import scaled

        x = scaled(images)
        moved = []
        for temperature in TEMPERATURES:
            sign = perturbation(self.model, x, temperature)
            moved += [self.model(x - epsilon * sign) for epsilon in EPSILONS]
        return {"logits": self.model(x), "moved": torch.cat(moved, dim=1)}

    def grid(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score at every point of the grid."""
        import numpy as np

        from oodbench.baselines.softmax_scores import doubt

        points = list(product(TEMPERATURES, EPSILONS))
        parts = np.split(statistics["moved"], len(points), axis=1)
        values = [doubt(part / point[0]) for part, point in zip(parts, points, strict=True)]
        return dict(zip(self.grid_names(), values, strict=True))

    def grid_names(self) -> list[str]:
        """One name for every point of the grid."""
        return [f"ODIN T={t:g} ε={e:g}" for t, e in product(TEMPERATURES, EPSILONS)]


@register("odin-validated", category="prior", cite="arXiv 1706.02690", title="ODIN, validated")
class ValidatedODIN(ChosenOnValidation, TunedODIN):
    """The point of the grid that is best on the validation set."""

    recipe_variant = "classifier-validated"
    score_patterns = ("ODIN",)
    chosen_name = "ODIN"
