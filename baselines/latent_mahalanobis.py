"""LMD: the Mahalanobis distance of a VAE's code to the codes of the training images.

Denouden et al. 2018 (arXiv 1812.02765) add this distance to the reconstruction error of an
autoencoder; it is our reading of the row LMD of Li et al. 2022, who do not expand the name and
print it among the methods with labels, though it uses none.  With m and C mean and covariance of
the posterior means of the training images: ½ (μ(x) − m)ᵀ C⁻¹ (μ(x) − m), higher = more OOD.
Of more than 10,000 training images (or `measure.max_images`) a seeded subset.
Cost per image: one encoder pass.  The VAE is that of `vae`, whose fit it shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from oodbench.detect.detector import Detector, register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.models.vae.conv_vae import ConvVAE


@register("latent-mahalanobis", cite="arXiv 1812.02765", title="LMD")
class LatentMahalanobis(Detector):
    """The distance in the latent space of the convolutional VAE."""

    recipe_variant = "vae"
    cost = "e"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the VAE."""
        self.model = cast("ConvVAE", models[0])

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """code (B, latent): the mean of q(z|x)."""
        return {"code": self.model.posterior(images).mean}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Mean and covariance of the training images' codes."""
        import numpy as np

        code = statistics["code"]
        self.mean = code.mean(axis=0)
        covariance = np.cov(code, rowvar=False, bias=True).reshape(code.shape[1], -1)
        self.precision = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """½ of the squared distance."""
        away = statistics["code"] - self.mean
        distance: np.ndarray = 0.5 * ((away @ self.precision) * away).sum(axis=1)
        return distance
