"""log p of real-valued pixels, for gradients with respect to an image: ∇ₓ log p(x).

Images are whole numbers, and `log_prob` of a model is a function of whole numbers alone: it draws
without gradients, rounds, and looks probabilities up.  `continuous_log_prob` is the same quantity
as a function of real pixels x in 0 … 255 that autograd follows through every path from x: what the
encoder sees, and what the likelihood is asked for.  Its draws are those of `log_prob` with the same
noise, which is held fixed, so that it can be compared with finite differences.

    pixels = images.float().requires_grad_()
    log_p = continuous_log_prob(model, pixels, noise)                 # (B,) nats
    (gradient,) = torch.autograd.grad(log_p.sum(), pixels)            # (B, C, H, W) nats per level

At whole numbers it is `log_prob` with one draw of every latent.  Between them:

  flows, Gaussian likelihood   x + u is continuous as it stands (u: the dequantising draw)
  discretised logistics        the mass of the bin [x, x + 1)/256, or ±1/255 around x, that slides
                               with x; the bins of 0 and 255 stay open within half a level of them
  256-way categorical pixels   cubic interpolation (Catmull and Rom) of the log-probabilities of the
                               neighbouring values: at a value its slope is half the difference of
                               the two beside it
  a diffusion model's L_0      z_0 moves with x, and so do the weights of the 256 values; the log of
                               π is interpolated like the log-probabilities above
  Bernoulli                    x/255 itself in the place of the binary draw, whose probability it
                               is: equal to `log_prob` for black and white pixels alone
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor, nn

from oodbench.models.autoregressive.pixelcnn import PixelCNN
from oodbench.models.denoising.diffusion import STEP, WINDOW, DiffusionModel, scaled
from oodbench.models.dvp.dvp_vae import DVPVAE, Seen
from oodbench.models.flows.glow import Glow
from oodbench.models.hierarchical.base import HierarchicalModel
from oodbench.models.layers.gaussian import kl_sample, log_density, standard
from oodbench.models.layers.likelihoods import (
    Bernoulli,
    LikelihoodHead,
    Logistic,
    log_logistic_mass,
)
from oodbench.models.layers.noise import FreshNoise, Noise
from oodbench.models.vae.conv_vae import ConvVAE


@singledispatch
def continuous_log_prob(model: nn.Module, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    """log p, or its bound with one draw of every latent, nats, (B,) float64.

    pixels (B, C, H, W): real numbers in 0 … 255.  TypeError for a model of no density; a model of
    one's own is added with ``continuous_log_prob.register(Model)``.
    """
    known = sorted(kind.__name__ for kind in continuous_log_prob.registry if kind is not object)
    raise TypeError(
        f"{type(model).__name__} has no log p of real pixels; those that have: {', '.join(known)}."
        " Add yours with @continuous_log_prob.register(Model)"
    )


@continuous_log_prob.register
def _(model: Glow, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    return model.log_prob(pixels, noise or _fresh(pixels))


@continuous_log_prob.register
def _(model: PixelCNN, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    x = pixels.float() / 255.0
    return _log_likelihood(model.likelihood, model.parameters_of(x), x)


@continuous_log_prob.register
def _(model: HierarchicalModel, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    noise = noise or _fresh(pixels)
    x = _observed(model.likelihood, pixels, noise)
    encoding = model.encode(x, noise)
    parameters, terms, _ = model.decode(encoding, (0,), noise, len(x))
    kl = [term.flatten(1).sum(1, dtype=torch.float64) for term in terms[0].values()]
    return _log_likelihood(model.likelihood, parameters[0], x) - torch.stack(kl).sum(0)


@continuous_log_prob.register
def _(model: ConvVAE, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    noise = (noise or _fresh(pixels)).scope("s0")  # the first importance sample of `log_prob`
    q = model.posterior(pixels)
    z = q.mean + q.scale * noise.normal("z", tuple(q.mean.shape[1:]))
    kl = kl_sample(z, q, standard(tuple(q.mean.shape), q.mean)).sum(1, dtype=torch.float64)
    logits = model.decoder(z).permute(0, 3, 1, 2, 4)
    return interpolated(logits, pixels).flatten(1).sum(1, dtype=torch.float64) - kl


@continuous_log_prob.register
def _(model: DVPVAE, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    noise = noise or _fresh(pixels)
    eps = model.prior.draws(noise)
    x = _observed(model.likelihood, pixels, noise)
    sees = pixels.float() / 255.0 if model.config.sees == "intensities" else x
    seen = Seen(x, model.pseudo.posterior(sees), model.encoder(2.0 * sees - 1.0))
    u = model.draw_u(seen.r, noise)
    (trail,) = model.trails(seen, u, noise)
    terms = [*trail.kl.values(), log_density(u, seen.r).flatten(1)]
    paid = torch.stack([term.sum(1, dtype=torch.float64) for term in terms]).sum(0)
    log_p = _log_likelihood(model.likelihood, model.head(trail), x)
    return log_p - paid - model.surprise(u, eps)


@continuous_log_prob.register
def _(model: DiffusionModel, pixels: Tensor, noise: Noise | None = None) -> Tensor:
    noise = noise or _fresh(pixels)
    x = scaled(pixels)
    _, terms = model.terms(x, noise, 1)
    integral = (model.high - model.low) * terms.mean(1)
    return -(_first_term(model, pixels, noise) + integral + model.end(x))


def _first_term(model: DiffusionModel, pixels: Tensor, noise: Noise) -> Tensor:
    """`DiffusionModel.reconstruction` of real pixels, nats, (B,) float64."""
    ratio = math.exp(0.5 * model.low)
    eps = noise.normal("reconstruction", tuple(pixels.shape[1:]))
    seen = scaled(pixels) + ratio * eps
    nearest = ((seen.detach() + 1.0) / STEP).round()
    half = min(255, math.ceil(WINDOW * ratio / STEP))
    weights = [model._weight(nearest + offset, seen, ratio) for offset in range(-half, half + 1)]
    frequency = model.log_frequency.view(1, -1, 1, 1, 256).expand(*pixels.shape, 256)
    own = _between(frequency, pixels) - 0.5 * eps**2
    element = own - torch.maximum(torch.logsumexp(torch.stack(weights), dim=0), own)
    return -element.flatten(1).sum(1, dtype=torch.float64)


def interpolated(logits: Tensor, pixels: Tensor) -> Tensor:
    """log-probabilities of real values between 256: cubic, with the slopes of Catmull and Rom.

    logits (…, 256), pixels (…) in 0 … 255; at either end the slope is that to the one neighbour.
    """
    return _between(logits, pixels) - torch.logsumexp(logits.float(), dim=-1)


def _between(logits: Tensor, pixels: Tensor) -> Tensor:
    lower = pixels.detach().floor().clamp(0, 254).long()
    t = (pixels - lower).float()
    places = torch.stack([(lower + step).clamp(0, 255) for step in (-1, 0, 1, 2)], dim=-1)
    before, at, after, beyond = logits.float().gather(-1, places).unbind(-1)
    before = torch.where(lower == 0, 2.0 * at - after, before)
    beyond = torch.where(lower == 254, 2.0 * after - at, beyond)
    rise, fall = (after - before) / 2.0, (beyond - at) / 2.0
    bend = 3.0 * (after - at) - 2.0 * rise - fall
    value: Tensor = at + t * (rise + t * (bend + t * (rise + fall - 2.0 * (after - at))))
    return value


def _fresh(pixels: Tensor) -> FreshNoise:
    return FreshNoise(len(pixels), pixels.device)


def _observed(head: LikelihoodHead, pixels: Tensor, noise: Noise) -> Tensor:
    """What the likelihood observes of real pixels, differentiable."""
    return pixels.float() / 255.0 if isinstance(head, Bernoulli) else head.observe(pixels, noise)


def _log_likelihood(head: LikelihoodHead, parameters: Tensor, x: Tensor) -> Tensor:
    """log p(x|z) of what `_observed` gave, (B,) float64."""
    if not isinstance(head, Logistic):
        return head.log_prob(parameters, x)
    # Its bins are rounded to; here they slide with x.
    mean, log_scale = head._split(parameters)
    place, nearest = x * 255.0, torch.round(x.detach() * 255.0)
    inverse = torch.exp(-log_scale)
    lower, width = (place / 256.0 - mean) * inverse, inverse / 256.0
    first, last = nearest == 0, nearest == 255
    if head.tail == "exact":
        elements = log_logistic_mass(lower, width, first, last)
    else:
        above = torch.where(last, 1.0, torch.sigmoid(lower + width))
        below = torch.where(first, 0.0, torch.sigmoid(lower))
        elements = torch.log(above - below + 1e-7)
    return elements.flatten(1).sum(1, dtype=torch.float64)
