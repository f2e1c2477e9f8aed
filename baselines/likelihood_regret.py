"""Likelihood regret: how much better the model explains an image once its encoder is refitted.

Xiao, Yan, Amit, NeurIPS 2020 (arXiv 2003.02977): with the decoder θ frozen,
    LRe(x) = log p(x; φ_x*, θ) − log p(x; φ, θ),  nats, higher = more OOD,
both sides importance-weighted bounds with the same draws; φ_x* comes from a fixed number of Adam
steps on the negative ELBO of this one image, from the trained φ on, batch normalisation in
evaluation mode.  LRe(z) refits only mean and log-variance of q(z|x).  All images of a batch are
refitted at once: their parameters are rows of one tensor, every operation of Adam is elementwise
and the loss is a sum over images, so that each row moves as it would alone.
Cost per image: 2 encoder passes, steps × (forward + backward) of encoder and decoder (of the
decoder alone for LRe(z)), and 2 S decoder passes; on a CPU those draws whose weight cannot matter
(`oodbench.models.vae.importance_bounds`) stop below the logits, where nine tenths of a pass are
spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, cast

from oodbench.detect.detector import Detector, register

if TYPE_CHECKING:
    import numpy as np
    import torch

    from oodbench.declare.settings import Refit
    from oodbench.models.layers.gaussian import Gaussian
    from oodbench.models.vae.conv_vae import ConvVAE
    from oodbench.seeding import KeyedNoise

#: Images refitted at once when the encoder's weights are per image (memory: weights × images).
ENCODERS_AT_ONCE = 25


class LikelihoodRegret(Detector):
    """LRe, or LRe(z), as the recipe's `measure.refit` says."""

    cost = "2 e + steps (f + b) + 2 S g"
    score_patterns: ClassVar[Sequence[str]] = ("LRe", "L")
    measure_name = "likelihood-regret"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the VAE."""
        self.model = cast("ConvVAE", models[0])

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """`before` and `after` (B,): the bound with the trained and with the refitted posterior."""
        import torch

        assert self.recipe is not None
        assert self.recipe.measure.refit is not None
        refit, samples = self.recipe.measure.refit, self.recipe.measure.importance_samples
        with torch.inference_mode(False):
            images = images.clone()
            with torch.no_grad():
                q = self.model.posterior(images)
                before = self.model.bound(images, q, noise.scope("bound"), samples)
            if refit.what == "posterior":
                refitted = refit_posterior(self.model, images, refit, noise)
            else:
                refitted = refit_encoders(self.model, images, refit, noise)
            with torch.no_grad():
                after = self.model.bound(images, refitted, noise.scope("bound"), samples)
        return {"before": before, "after": after}

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """LRe = after − before, and L = −before."""
        return {
            "LRe": statistics["after"] - statistics["before"],
            "L": -statistics["before"],
        }

    def score_names(self) -> list[str]:
        """The two."""
        return ["LRe", "L"]


@register("likelihood-regret", cite="arXiv 2003.02977", title="Likelihood Regret")
class EncoderRegret(LikelihoodRegret):
    """The encoder's weights are refitted."""

    recipe_variant = "vae-regret"


@register("likelihood-regret-z", cite="arXiv 2003.02977", title="Likelihood Regret (z)")
class PosteriorRegret(LikelihoodRegret):
    """Only mean and log-variance of q(z|x) are refitted."""

    recipe_variant = "vae-regret-z"
    cost = "2 e + steps (g + b) + 2 S g"


def refit_posterior(
    model: ConvVAE, images: torch.Tensor, settings: Refit, noise: KeyedNoise
) -> Gaussian:
    """q(z|x) (B, latent) after the steps on (mean, log-variance); uint8 `images` (B, C, H, W)."""
    import torch

    from oodbench.models.vae.conv_vae import gaussian

    with torch.no_grad():
        start = model.encoder(images.float() / 255.0)
    free = [part.clone().requires_grad_() for part in start]
    _descend(model, images, free, settings, noise, lambda: gaussian(free[0], free[1]))
    return gaussian(free[0].detach(), free[1].detach())


def refit_encoders(
    model: ConvVAE, images: torch.Tensor, settings: Refit, noise: KeyedNoise
) -> Gaussian:
    """q(z|x) (B, latent) of every image's own refitted encoder; uint8 `images` (B, C, H, W)."""
    import torch

    from oodbench.models.layers.gaussian import Gaussian
    from oodbench.models.vae.conv_vae import gaussian
    from oodbench.models.vae.per_image_encoders import StackedEncoders

    parts = []
    for first in range(0, len(images), ENCODERS_AT_ONCE):
        chosen = slice(first, first + ENCODERS_AT_ONCE)
        some = images[chosen]
        encoders = StackedEncoders(model.encoder, len(some))
        x = some.float() / 255.0
        _descend(
            model, some, encoders.parameters, settings, noise.rows(chosen),
            lambda e=encoders, x=x: gaussian(*e(x)),  # type: ignore[misc]
        )  # fmt: skip
        with torch.no_grad():
            parts.append(gaussian(*encoders(x)))
    return Gaussian(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _descend(
    model: ConvVAE,
    images: torch.Tensor,
    parameters: Sequence[torch.Tensor],
    settings: Refit,
    noise: KeyedNoise,
    posterior: Callable[[], Gaussian],
) -> None:
    """Adam on Σ over images of −ELBO, moving `parameters` alone."""
    import torch

    from oodbench.models.layers.gaussian import kl_analytic, standard

    optimiser = torch.optim.Adam(
        parameters, settings.lr, betas=(0.9, 0.999), weight_decay=settings.weight_decay, fused=True
    )
    with torch.enable_grad(), _frozen(model.decoder):
        for draw in noise.scopes([f"step{step}" for step in range(settings.steps)]):
            q = posterior()
            eps = draw.normal("z", tuple(q.mean.shape[1:]))
            nll = -model.log_likelihood(images, q.mean + q.scale * eps)
            kl = kl_analytic(q, standard(tuple(q.mean.shape), q.mean)).sum(1)
            gradients = torch.autograd.grad((nll + kl).sum(), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()


@contextmanager
def _frozen(module: torch.nn.Module) -> Iterator[None]:
    """Let no weight of `module` ask for a gradient, so that its passes keep nothing for one."""
    asked = [p for p in module.parameters() if p.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
