"""The teacher of a simplex witness: a Gaussian mixture on principal components, fixed once fitted.

Zhang, Peng, Zhang, arXiv 2605.18224: an unsupervised (PCA-)GMM view of the data with label
smoothing (stated); 50 components of the PCA, a full covariance each, several restarts (ours).  The
parameters are buffers, so that the teacher travels with the weights of the model that it taught.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from oodbench.models.hierarchical.simplex_witness import (
    Certificate,
    certificate,
    divergence,
    log_readout,
    minimum_code,
    simplex,
    smoothed,
    teacher_energy,
    teacher_information,
)

if TYPE_CHECKING:
    import numpy as np
    from sklearn.mixture import GaussianMixture

    from oodbench.models.hierarchical.config import TeacherSettings, WitnessSettings

MAX_ITERATIONS = 100


class Teacher(nn.Module):
    """T_x, (B, K), of images of `shape` (C, H, W)."""

    def __init__(self, settings: TeacherSettings, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.settings = settings
        dims = math.prod(shape)
        size, count = min(settings.pca, dims), settings.components
        for name, tensor in {
            "pixel_mean": torch.zeros(dims),
            "axes": torch.zeros(size, dims),
            "log_weights": torch.zeros(count),
            "means": torch.zeros(count, size),
            "precisions": torch.zeros(count, size, size),
        }.items():
            self.register_buffer(name, tensor.double())

    def _buffer(self, name: str) -> Tensor:
        return cast(Tensor, getattr(self, name))

    def fit(self, images: Tensor, seed: int) -> None:
        """Learn from uint8 `images` (N, C, H, W); the same images and seed give the same teacher.

        Of the restarts whose E_T is at most that of one-hot responsibilities the one of largest
        I_T is kept; where none is, the one of least E_T.  ValueError on too few images.
        """
        import numpy as np
        from sklearn.decomposition import PCA
        from threadpoolctl import threadpool_limits

        settings, size = self.settings, self._buffer("axes").shape[0]
        if len(images) < max(size, settings.components):
            raise ValueError(
                f"a teacher of {settings.components} components on {size} principal components"
                f" needs as many training images; there are {len(images)}"
            )
        random = np.random.default_rng(seed)
        chosen = np.sort(random.permutation(len(images))[: settings.images])
        pixels = images[torch.from_numpy(chosen).to(images.device)].flatten(1).cpu().numpy() / 255.0
        with threadpool_limits(1):  # sums over threads would depend on their order
            reduced = PCA(size, svd_solver="full").fit(pixels)
            points = reduced.transform(pixels)
            fitted = [
                _mixture(points, settings.components, int(random.integers(2**31)))
                for _ in range(settings.restarts)
            ]
        mixture = min(fitted, key=lambda m: self._rank(torch.from_numpy(m.predict_proba(points))))
        values = {
            "pixel_mean": reduced.mean_,
            "axes": reduced.components_,
            "log_weights": np.log(mixture.weights_),
            "means": mixture.means_,
            "precisions": mixture.precisions_cholesky_,
        }
        for name, value in values.items():
            self._buffer(name).copy_(torch.from_numpy(np.asarray(value)))

    def _rank(self, responsibilities: Tensor) -> tuple[bool, float]:
        """Smaller is better: I_T among the mixtures of admissible E_T, E_T among the others."""
        target = smoothed(responsibilities, self.settings.smoothing)
        hard = smoothed(torch.eye(self.settings.components), self.settings.smoothing)
        energy = teacher_energy(target)
        if energy > teacher_energy(hard):
            return True, energy
        return False, -teacher_information(target)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """T_x, (B, K) float64, of uint8 images (B, C, H, W)."""
        pixels = images.flatten(1).double() / 255.0
        points = (pixels - self._buffer("pixel_mean")) @ self._buffer("axes").T
        precisions = self._buffer("precisions")
        shifted = torch.einsum("kbp,kpq->kbq", points - self._buffer("means")[:, None], precisions)
        log_det = precisions.diagonal(dim1=1, dim2=2).log().sum(1)
        log_joint = self._buffer("log_weights") + log_det - 0.5 * (shifted**2).sum(2).T
        return smoothed(torch.softmax(log_joint, dim=1), self.settings.smoothing)


def _mixture(points: np.ndarray, components: int, seed: int) -> GaussianMixture:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        # A mixture cut off after MAX_ITERATIONS is as good a teacher as any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = GaussianMixture(
            components, reg_covar=1e-4, max_iter=MAX_ITERATIONS, random_state=seed
        )
        return mixture.fit(points)


class Witness(nn.Module):
    """Teacher and simplex on the mean, (B, units), of one latent; nothing of it is trained."""

    def __init__(self, settings: WitnessSettings, shape: tuple[int, int, int], units: int) -> None:
        super().__init__()
        self.settings = settings
        self.teacher = Teacher(settings.teacher, shape)
        vertices = simplex(settings.teacher.components, units)
        self.register_buffer("vertices", vertices, persistent=False)

    def _vertices(self, precision: torch.dtype = torch.float64) -> Tensor:
        """The simplex, rounded to the precision that the mean is in: float32 in training."""
        return cast(Tensor, self.vertices).to(precision)

    def log_prediction(self, mean: Tensor) -> Tensor:
        """log S(μ), (B, K), in the precision of the mean."""
        return log_readout(mean, self._vertices(mean.dtype), self.settings.gain)

    def alignment(self, target: Tensor, mean: Tensor) -> Tensor:
        """KL(T_x ‖ S(μ(x))), (B,) nats: the loss L_TS before the mean."""
        return divergence(target.to(mean.dtype), self.log_prediction(mean))

    def distance(self, target: Tensor, mean: Tensor) -> Tensor:
        """‖Pμ(x) − z*(x)‖², (B,), P onto the span of the simplex: what the prefit minimises."""
        vertices = self._vertices(mean.dtype)
        code = minimum_code(target, vertices.double(), self.settings.gain)
        span = len(vertices) - 1
        return ((mean[:, :span] - code[:, :span].to(mean.dtype)) ** 2).sum(1)

    def certify(self, target: Tensor, mean: Tensor) -> Certificate:
        """The certificate of means (N, units) and targets (N, K) of the same images."""
        prediction = log_readout(mean.double(), self._vertices(), self.settings.gain)
        return certificate(target, prediction, self.settings.gain)
