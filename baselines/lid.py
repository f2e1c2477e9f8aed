"""LID pairs: is an image of high likelihood one of low local intrinsic dimension?

Kamkari, Ross, Cresswell, Caterini, Krishnan, Loaiza-Ganem, ICML 2024, "A Geometric Explanation of
the Likelihood OOD Detection Paradox" (arXiv 2403.18910).  An OOD image may have a higher density
than ID images and yet be hardly ever drawn, where the region around it has fewer dimensions.  The
dual threshold, stated, calls OOD what has
    log p(x) < ψ_L,  or  log p(x) ≥ ψ_L and LID(x) < ψ_LID.
Ours is one score of it, whose threshold moves both, so that nothing is chosen with OOD images: with
z the value in standard deviations from the mean of the training images,
    pair  max(−z(log p), −z(LID)),    LID  −z(LID) alone;   higher = more OOD.

LID of a flow, read in the public code (layer6ai-labs/dgm_ood_detection): eigenvalues λ of J Jᵀ,
J the Jacobian of the latents' map to the image, above a scale.  Ours counts them smoothly,
    LID = Σ λ/(λ + s²) = tr (I + s² KᵀK)⁻¹,   K = J⁻¹ the Jacobian of the image's map to latents,
by conjugate gradients on a random sign vector: no Jacobian is formed.
LID of a diffusion model: there the numerical rank of 4 D scores around x (Stanczuk et al. 2023);
ours is FLIPD, of the same authors (Kamkari et al. 2024, arXiv 2406.03537), at a level of noise s,
    LID = D − s div_u ε̂ + ‖ε̂‖²,   u = x,
the divergence by sign vectors.  s = 0.05 of the range of the pixels for both.
Cost per image: 22 passes forward and 20 back through the flow; S + 1 passes forward and 4 back of
the diffusion model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

from oodbench.baselines.denoising import DenoisingDetector, Standardised
from oodbench.detect.detector import Detector, register

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from oodbench.models.flows.glow import Glow
    from oodbench.seeding import KeyedNoise

#: s, in the range of the pixels.
SCALE = 0.05
#: Conjugate gradients, and the share of the residual below which nothing is left to do.
ITERATIONS = 20
ENOUGH = 1e-9
#: Values of images that are differentiated at once: a network keeps some 2,000 numbers for each.
AT_ONCE = 1 << 17
#: Sign vectors of the divergence.
PROBES = 4


class LIDPair(Detector):
    """The two scores, of the statistics `log_prob` and `lid`, (N,)."""

    needs_gradient = True
    score_patterns: ClassVar[Sequence[str]] = ("pair", "LID")
    unoriented: ClassVar[Mapping[str, str]] = {
        "LID": "noise has no fewer dimensions than ID images: the likelihood has to find it"
    }

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Means and standard deviations of training images."""
        self.standard = Standardised(statistics, ("log_prob", "lid"))

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The dual threshold, and the dimension alone."""
        import numpy as np

        likely, wide = (self.standard(statistics, name) for name in ("log_prob", "lid"))
        return {"pair": np.maximum(-likely, -wide), "LID": -wide}

    def score_names(self) -> list[str]:
        """The pair first."""
        return ["pair", "LID"]


@register("lid-glow", cite="arXiv 2403.18910", title="LID pair (Glow)")
class LIDGlow(LIDPair):
    """On the Glow that `glow` trains."""

    revision = 2
    recipe_variant = "glow-lid"
    measure_name = "lid-glow"
    cost = "2 f + 41 b"

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the flow."""
        self.model = cast("Glow", models[0])

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_prob (B,) nats, lid (B,) dimensions."""
        import torch

        with torch.no_grad():
            x = self.model.observe(images, noise)
            log_prob = self.model.log_density(x) - math.prod(self.model.inner) * math.log(256.0)

        weights = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        # In 64 bits: rounding would decide where conjugate gradients go.
        exact = {f"flow.{k}": v.double() for k, v in weights.items() if v.is_floating_point()}
        latents = partial(torch.func.functional_call, whole_latents(self.model), exact)
        signs = 1.0 - 2.0 * (noise.uniform("signs", tuple(x.shape[1:])) < 0.5).double()
        lid = torch.cat([
            effective_dimension(latents, x[part].double(), signs[part], SCALE)
            for part in _parts(x)
        ])  # fmt: skip
        return {"log_prob": log_prob, "lid": lid}


@register("lid-diffusion", cite="arXiv 2403.18910; arXiv 2406.03537", title="LID pair (diffusion)")
class LIDDiffusion(LIDPair, DenoisingDetector):
    """On the diffusion model that `diffusion` trains."""

    measure_name = "lid-diffusion"
    cost = f"(S + 1) f + {PROBES} b"

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> dict[str, torch.Tensor]:
        """log_prob (B,) nats, lid (B,) dimensions."""
        import torch

        from oodbench.models.denoising.diffusion import scaled

        assert self.recipe is not None
        samples, x = self.recipe.measure.importance_samples, scaled(images)
        with torch.no_grad():
            log_prob = self.model.log_prob(images, noise, samples)
        s = 2.0 * SCALE  # the pixels' range is 2 here
        signs = noise.uniform("signs", (PROBES, *x.shape[1:])) < 0.5
        lid = []
        for part in _parts(x):
            probes = 1.0 - 2.0 * signs[part].float()
            eps, spread = self.model.flow(x[part], 2.0 * math.log(s), probes)
            size = (eps.double() ** 2).flatten(1).sum(1)
            lid.append((math.prod(x.shape[1:]) - s * spread + size).detach())
        return {"log_prob": log_prob, "lid": torch.cat(lid)}


def _parts(x: Tensor) -> list[slice]:
    """The images that are differentiated together, part by part."""
    few = max(1, AT_ONCE // math.prod(x.shape[1:]))
    return [slice(start, start + few) for start in range(0, len(x), few)]


def whole_latents(flow: Glow) -> nn.Module:
    """A module from x̃ (B, C, H, W) to all latents (B, D), standardised by their Gaussians."""
    import torch

    class Latents(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, x: Tensor) -> Tensor:
            latents, parameters, _ = self.flow.transform(x)
            found = []
            for z, read in zip(latents, parameters, strict=True):
                mean, log_scale = read.chunk(2, dim=1)
                found.append(((z - mean) * (-log_scale).exp()).flatten(1))
            return torch.cat(found, dim=1)

    return Latents()


def effective_dimension(
    latents: Callable[[Tensor], Tensor], x: Tensor, signs: Tensor, scale: float
) -> Tensor:
    """signsᵀ (I + scale² KᵀK)⁻¹ signs of every image, (B,) float64; K = ∂latents/∂x.

    `latents` maps (B, …) to (B, d) image by image; over random signs the mean is the trace.
    """
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = latents(x)
        # Kᵀu is linear in u, so that its gradient against u is K: one forward pass serves for all.
        u = torch.zeros_like(z, requires_grad=True)
        (back,) = torch.autograd.grad(z, x, u, create_graph=True)

    def product(v: Tensor) -> Tensor:
        (along,) = torch.autograd.grad(back, u, v, retain_graph=True)
        (again,) = torch.autograd.grad(z, x, along, retain_graph=True)
        return v + scale**2 * again

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a.double() * b.double()).flatten(1).sum(1)

    def times(factor: Tensor, v: Tensor) -> Tensor:
        return factor.to(v.dtype).view(-1, *[1] * (v.dim() - 1)) * v

    solution, residual = torch.zeros_like(signs), signs
    direction, size = residual, dot(residual, residual)
    least = ENOUGH**2 * size
    for _ in range(ITERATIONS):
        moved = product(direction)
        # Near the end of an image's own solution there is nothing left to divide by.
        going = (size > least).to(size.dtype)
        step = going * size / dot(direction, moved).clamp(min=1e-300)
        solution = solution + times(step, direction)
        residual = residual - times(step, moved)
        left = dot(residual, residual)
        direction = residual + times(going * left / size.clamp(min=1e-300), direction)
        size = left
    return dot(signs, solution).detach()
