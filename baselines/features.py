"""Distances in the feature space of a frozen network: k nearest neighbours and Mahalanobis.

kNN: Euclidean distance to the k-th nearest training feature, features of unit length (Sun, Ming,
Zhu, Li 2022, arXiv 2204.06507).  Mahalanobis: (f − μ)ᵀ Σ⁻¹ (f − μ) with one mean and covariance
of all training features, labels being no part of the task (after Lee et al. 2018, arXiv
1807.03888; one class: Ren et al. 2021, arXiv 2106.09022).  Higher = more OOD.
Cost per image: one forward pass and a search through the kept features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from oodbench.detect.detector import Detector

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.datasets.imageset import ImageSet
    from oodbench.detect.detector import FitContext

BATCH = 200
#: Added to the covariance, as a share of its mean variance, so that it can be inverted.
RIDGE = 1e-6


class FeatureDistances(Detector):
    """Both distances, for the extractor that a subclass makes.

    `extractor` must give the same network every time: its weights come from a file or from a fixed
    seed, and bumping `revision` is what tells results of different weights apart.
    """

    cost = "f"
    score_patterns = ("kNN", "Mahalanobis")
    fit_images = 10_000
    neighbours: ClassVar[int] = 10

    def extractor(self, shape: tuple[int, int, int]) -> torch.nn.Module:
        """The network for images of `shape`; gets float images (B, C, H, W) in 0 … 1."""
        raise NotImplementedError

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, D) float64 features of uint8 images (B, C, H, W)."""
        import torch

        channels, height, width = images.shape[1:]
        if not hasattr(self, "_network"):
            with torch.random.fork_rng():
                self._network = self.extractor((channels, height, width)).eval()
        with torch.no_grad():
            out = self._network.to(images.device)(images.float() / 255.0)
        found: torch.Tensor = out.flatten(1).double()
        return found

    def fit(self, train: ImageSet, context: FitContext) -> None:
        """Keep unit features, mean and inverse covariance."""
        import torch

        parts = [
            self.features(torch.from_numpy(train.images[i : i + BATCH].copy()).to(context.device))
            for i in range(0, len(train), BATCH)
        ]
        found = torch.cat(parts).cpu()
        self.mean = found.mean(0)
        covariance = torch.cov(found.T).reshape(found.shape[1], -1)
        ridge = RIDGE * covariance.diagonal().mean() + torch.finfo(torch.float64).tiny
        self.precision = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance)))
        self.unit = torch.nn.functional.normalize(found, dim=1)

    def measure(  # type: ignore[override]
        self, images: torch.Tensor, noise: None = None
    ) -> dict[str, torch.Tensor]:
        """knn and mahalanobis (B,)."""
        import torch

        found = self.features(images).cpu()
        centred = found - self.mean
        mahalanobis = torch.einsum("bi,ij,bj->b", centred, self.precision, centred)
        # One image at a time: a product of matrices would round by the size of the batch.
        unit = torch.nn.functional.normalize(found, dim=1)
        nearest = [
            torch.linalg.vector_norm(self.unit - row, dim=1).kthvalue(self.neighbours).values
            for row in unit
        ]
        return {"knn": torch.stack(nearest), "mahalanobis": mahalanobis}

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The two statistics."""
        return {"kNN": statistics["knn"], "Mahalanobis": statistics["mahalanobis"]}

    def score_names(self) -> list[str]:
        """The two."""
        return ["kNN", "Mahalanobis"]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Features, mean and precision."""
        return {"unit": self.unit, "mean": self.mean, "precision": self.precision}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take them."""
        self.unit, self.mean, self.precision = state["unit"], state["mean"], state["precision"]
