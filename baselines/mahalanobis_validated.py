"""MD in its published form, with another OOD set: distances of all stages, weighted.

Lee, Lee, Lee, Shin, NeurIPS 2018 (arXiv 1807.03888), section 2.2 and Algorithm 1: in every stage
the input is moved by ε and the distance taken; a logistic regression weighs the stages.  The
authors' code takes 1,000 ID and 1,000 OOD test images, half of them for the regression, half for ε.
Here the OOD images are those of the declared validation set and the ID images training images; ε is
chosen by AUROC.  Distances are standardised before.  Score = log-odds of OOD, higher = more OOD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from oodbench.baselines.grid import ChosenOnValidation
from oodbench.baselines.mahalanobis import EPSILONS, TunedMahalanobis
from oodbench.detect.detector import register

if TYPE_CHECKING:
    import numpy as np
    from sklearn.pipeline import Pipeline

#: Images of each side, as published.
IMAGES = 1000


@register("mahalanobis-validated", category="prior", cite="arXiv 1807.03888", title="MD, validated")
class ValidatedMahalanobis(ChosenOnValidation, TunedMahalanobis):
    """The ε that is best on the validation set, with the weights of a logistic regression."""

    revision = 2
    measure_revision = 1
    recipe_variant = "classifier-validated"
    score_patterns = ("MD",)
    chosen_name = "MD"

    def choose(self, inside: Mapping[str, np.ndarray], outside: Mapping[str, np.ndarray]) -> str:
        """Fit the weights at every ε and choose ε; returns it with the weights."""
        from oodbench.rank.metrics import auroc

        fitting, choosing = zip(_halves(inside), _halves(outside), strict=True)
        best = -1.0
        for step, epsilon in enumerate(EPSILONS):
            model = _fitted(*(side[:, step] for side in fitting))
            found = auroc(*(model.decision_function(side[:, step]) for side in choosing))
            if found > best:
                best, self.step, self.weighing = found, step, model
                self.chosen = f"MD ε={epsilon:g}"
        weights = ", ".join(f"{weight:.2f}" for weight in self.weighing[-1].coef_[0])
        return f"{self.chosen}, weights of the stages' distances, standardised: {weights}"

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The log-odds."""
        distances = _by_step(statistics)[:, self.step]
        return {self.chosen_name: self.weighing.decision_function(distances)}


def _by_step(statistics: Mapping[str, np.ndarray]) -> np.ndarray:
    """Distances (N, ε, stages)."""
    distances = statistics["distance"]
    return distances.reshape(len(distances), len(EPSILONS), -1)


def _halves(statistics: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distances of two disjoint seeded halves of at most `IMAGES` images."""
    import numpy as np

    from oodbench.seeding import derive_seed

    distances = _by_step(statistics)
    count = len(distances)
    order = np.random.default_rng(derive_seed("validation", count)).permutation(count)[:IMAGES]
    half = len(order) // 2
    return distances[order[:half]], distances[order[half:]]


def _fitted(inside: np.ndarray, outside: np.ndarray) -> Pipeline:
    """The regression of ID (0) against OOD (1) on distances (N, stages)."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    sides = np.repeat([0, 1], [len(inside), len(outside)])
    return model.fit(np.concatenate([inside, outside]), sides)
