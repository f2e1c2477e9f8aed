"""Layer-wise gradients: are the gradients of log p in the weights as large as training images' are?

Dauncey, Holmes, Williams, Falck 2024, "Approximations to the Fisher Information Metric of Deep
Generative Models for Out-Of-Distribution Detection" (TMLR, arXiv 2403.01485).  With θ_j the weights
of layer j, the features of an image are
    f_j(x) = log ‖∇_θj log p(x)‖²
whose joint density over training images (of more than 10,000, or `measure.max_images`, a seeded
subset) is taken for that of independent Gaussians, since the norms are nearly χ²-distributed and
weakly correlated:
    score(x) = Σ_j ½ ((f_j − m_j) / s_j)² + log s_j
higher = more OOD; two-sided, and without a hyper-parameter.
Stated in the abstract and in the authors' account of it: the features, χ², their joint density.
Read in the public code (SamD770/Generative-Models-Knowledge): Gaussians of the logarithms, every
parameter tensor a layer of its own, those left out that do not vary over training images, one
backward pass an image.  Ours: a layer is a module with weights of its own (its weight, bias and
gain together), squares below e^−60 of the layer's largest training value count as that, and of a
bound the gradient is that of one draw, keyed by the image.  Gradients of all images of a batch are
taken at once (`torch.func`, one `vmap` over images), not one backward pass after the other.
Cost per image: two forward passes, of which one makes the draws, and one backward pass; at four
levels of noise for the diffusion model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from oodbench.detect.detector import Detector, register

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from oodbench.baselines.per_image_gradients import Parts
    from oodbench.models.autoregressive.pixelcnn import PixelCNN
    from oodbench.models.denoising.diffusion import DiffusionModel
    from oodbench.models.flows.glow import Glow
    from oodbench.models.hierarchical.base import HierarchicalModel
    from oodbench.models.layers.noise import Noise
    from oodbench.seeding import KeyedNoise

#: log ‖∇‖² of a layer that an image leaves alone.
FLOOR = -60.0
#: A layer whose feature hardly varies over the training images says nothing.
LEAST_SPREAD = 1e-3
#: Levels of noise of the diffusion model's gradients.
LEVELS = 4


class LayerGradients(Detector):
    """The density of the features on the recipe's model."""

    needs_gradient = True
    measure_name = "layer-gradients"
    cost = "2 f + b"
    score_patterns: ClassVar[Sequence[str]] = ("gradients",)

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the one trained model."""
        self.model = models[0]

    def parts(self, model: nn.Module, pixels: Tensor, noise: Noise) -> Parts:
        """What is derived; see `oodbench.baselines.per_image_gradients.Parts`."""
        raise NotImplementedError

    def likelihood(self, model: nn.Module, parameters: Tensor, pixels: Tensor) -> Tensor:
        """log p(x) of the parameters that `parts` gives, (B,) nats."""
        head = cast("PixelCNN | HierarchicalModel", model).likelihood
        return head.log_prob(parameters, pixels / 255.0)

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_squares (B, layers)."""
        from oodbench.baselines.per_image_gradients import squared_gradients

        squares = squared_gradients(self.model, self.parts, self.likelihood, images, noise)
        return {"log_squares": squares.clamp(min=1e-300).log()}

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Means and standard deviations over training images, layer by layer."""
        self.floor = statistics["log_squares"].max(0) + FLOOR
        features = self._features(statistics)
        self.mean, self.spread = features.mean(0), features.std(0)
        self.varies = self.spread > LEAST_SPREAD

    def _features(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        import numpy as np

        return np.asarray(np.maximum(statistics["log_squares"], self.floor))

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """−log density, but for a constant."""
        kept = self.varies
        away = (self._features(statistics)[:, kept] - self.mean[kept]) / self.spread[kept]
        return {"gradients": 0.5 * (away**2).sum(1)}

    def score_names(self) -> list[str]:
        """The one score."""
        return ["gradients"]


@register("gradients-glow", cite="arXiv 2403.01485", title="Layer gradients (Glow)")
class GradientsGlow(LayerGradients):
    """On a Glow: its log p(x) itself."""

    recipe_variant = "glow-gradients"

    def parts(self, model: nn.Module, pixels: Tensor, noise: Noise) -> Parts:
        """log p(x), which has no likelihood of its own."""
        from oodbench.baselines.per_image_gradients import Parts

        return Parts(None, cast("Glow", model).log_prob(pixels, noise))


@register("gradients-pixelcnn", cite="arXiv 2403.01485", title="Layer gradients (PC++)")
class GradientsPixelCNN(LayerGradients):
    """On PixelCNN++."""

    recipe_variant = "pixelcnn-gradients"

    def parts(self, model: nn.Module, pixels: Tensor, noise: Noise) -> Parts:
        """The mixtures of all pixels."""
        from oodbench.baselines.per_image_gradients import Parts

        found = cast("PixelCNN", model).parameters_of(pixels / 255.0)
        return Parts(found, pixels.new_zeros(len(pixels)))


@register("gradients-hvae", cite="arXiv 2403.01485", title="Layer gradients (HVAE)")
class GradientsHVAE(LayerGradients):
    """On the HVAE trained on the plain ELBO: of the ELBO with one draw of every latent."""

    recipe_variant = "vanilla-gradients"
    cost = "2 e + 2 g + b"

    def parts(self, model: nn.Module, pixels: Tensor, noise: Noise) -> Parts:
        """The parameters of p(x|z1), and −Σ KL_l."""
        import torch

        from oodbench.baselines.per_image_gradients import Parts

        hvae = cast("HierarchicalModel", model)
        encoding = hvae.encode(pixels / 255.0, noise)
        parameters, terms, _ = hvae.decode(encoding, (0,), noise, len(pixels))
        kl = [term.flatten(1).sum(1, dtype=torch.float64) for term in terms[0].values()]
        return Parts(parameters[0], -torch.stack(kl).sum(0))


@register("gradients-diffusion", cite="arXiv 2403.01485", title="Layer gradients (diffusion)")
class GradientsDiffusion(LayerGradients):
    """On the diffusion model: of the integral in its bound, at 4 levels of noise."""

    recipe_variant = "diffusion-gradients"
    cost = "8 f + 4 b"

    def parts(self, model: nn.Module, pixels: Tensor, noise: Noise) -> Parts:
        """−½ ‖ε − ε̂‖², the mean over the levels times the range of γ."""
        from oodbench.baselines.per_image_gradients import Parts
        from oodbench.models.denoising.diffusion import STEP

        diffusion = cast("DiffusionModel", model)
        x = pixels * STEP - 1.0
        gammas = diffusion.levels(noise, LEVELS).flatten()
        eps = noise.normal("eps", (LEVELS, *x.shape[1:])).flatten(0, 1)
        terms = diffusion.denoising(x.repeat_interleave(LEVELS, 0), eps, gammas).view(-1, LEVELS)
        return Parts(None, -(diffusion.high - diffusion.low) * terms.mean(1))
