"""Likelihoods p(x | features) of 8-bit images: parameters from features, log-probability in nats.

Every class maps features (B, F, H, W) or (B, F) to parameters and gives log p(x) summed over the
D numbers of an image.  Sources: Salimans et al. 2017 (PixelCNN++, discretised logistic mixture),
Kingma et al. 2016 (discretised logistic), Havtorn et al. 2021 (code: offsets and clamps).

The mass of a bin [a, c] under a logistic is computed as
    log(σ(c) − σ(a)) = log σ(c) + log σ(−a) + log(1 − e^(a−c)),
an identity without cancellation, so that the tail needs neither a cap nor a fallback.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from oodbench.models import config
from oodbench.models.layers.noise import Noise
from oodbench.models.layers.weight_norm import Conv2d, Linear

MIN_LOG_SCALE = -7.0
#: A scale a thousand times the pixel range is flat already; beyond it a bin's mass underflows.
MAX_LOG_SCALE = 7.0


class _Saved(Protocol):
    saved_tensors: tuple[Tensor, ...]


class LikelihoodHead(nn.Module):
    """Base of the likelihoods: a parameter layer on features of `features` = (F, H, W) or (F,).

    `shape` is (C, H, W) of the image, `per_value` the parameters per pixel position, and
    `activate` says whether the features pass the activation first (the public code's choice).
    """

    activate = False
    kernel = 3

    def __init__(
        self,
        features: tuple[int, ...],
        shape: tuple[int, int, int],
        per_pixel: int,
        normalise: bool,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.per_pixel = per_pixel
        _, height, width = shape
        self.layer: Conv2d | Linear
        if len(features) == 3:
            self.layer = Conv2d(
                (height, width), features[0], per_pixel, self.kernel, normalise=normalise
            )
        else:
            self.layer = Linear(features[0], per_pixel * height * width, normalise)

    def forward(self, features: Tensor) -> Tensor:
        """Parameters (B, per_pixel, H, W), float32."""
        raw: Tensor = self.layer(features)
        return raw.float().view(-1, self.per_pixel, *self.shape[1:])

    def observe(self, images: Tensor, noise: Noise) -> Tensor:
        """What the model sees of uint8 images (B, C, H, W): float32, in [0, 1]."""
        return images.float() / 255.0

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log p(x) in nats, (B,) float64; `x` (B, C, H, W) as `observe` gave it."""
        elements = self.log_prob_elements(parameters, x)
        return elements.flatten(1).sum(1, dtype=torch.float64)

    def log_prob_elements(self, parameters: Tensor, x: Tensor) -> Tensor:
        """log-probability of every number, summed over colours where they share a mixture."""
        raise NotImplementedError

    def mean(self, parameters: Tensor) -> Tensor:
        """Mean image (B, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        """A draw (B, C, H, W), uint8."""
        raise NotImplementedError


class Bernoulli(LikelihoodHead):
    """Binary pixels; an 8-bit image is observed as a Bernoulli(x/255) draw (profile `binary`)."""

    activate = True

    def __init__(
        self, features: tuple[int, ...], shape: tuple[int, int, int], normalise: bool = True
    ) -> None:
        super().__init__(features, shape, shape[0], normalise)

    def observe(self, images: Tensor, noise: Noise) -> Tensor:
        """A binary draw with probability x/255 for every number."""
        u = noise.uniform("binarise", tuple(images.shape[1:]))
        return (u * 255.0 < images.float()).float()

    def log_prob_elements(self, parameters: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(parameters, x, reduction="none")

    def mean(self, parameters: Tensor) -> Tensor:
        return torch.sigmoid(parameters)

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        u = noise.uniform("pixel", tuple(parameters.shape[1:]))
        return (u < torch.sigmoid(parameters)).to(torch.uint8) * 255


class Logistic(LikelihoodHead):
    """One discretised logistic per number: mean, log-scale, 256 bins of width 1/256 on [0, 1]."""

    def __init__(
        self,
        features: tuple[int, ...],
        shape: tuple[int, int, int],
        normalise: bool = True,
        tail: str = "exact",
    ) -> None:
        super().__init__(features, shape, 2 * shape[0], normalise)
        self.tail = tail

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = parameters.chunk(2, dim=1)
        return mean + 0.5, (log_scale - 1.0).clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)

    def log_prob_elements(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = self._split(parameters)
        bin_ = torch.round(x * 255.0)
        inverse = torch.exp(-log_scale)
        lower = (bin_ / 256.0 - mean) * inverse
        width = inverse / 256.0
        first, last = bin_ == 0, bin_ == 255
        if self.tail == "exact":
            return log_logistic_mass(lower, width, first, last)
        above = torch.where(last, 1.0, torch.sigmoid(lower + width))
        below = torch.where(first, 0.0, torch.sigmoid(lower))
        return torch.log(above - below + 1e-7)

    def mean(self, parameters: Tensor) -> Tensor:
        return self._split(parameters)[0].clamp(0, 1)

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        mean, log_scale = self._split(parameters)
        u = noise.uniform("pixel", tuple(mean.shape[1:]))
        x = mean + torch.exp(log_scale) * torch.logit(u, eps=1e-7)
        return (x * 256.0).floor().clamp(0, 255).to(torch.uint8)


class LogisticMixture(LikelihoodHead):
    """Discretised logistic mixture with linear dependence between colours (Salimans et al. 2017).

    Pixels in [−1, 1]; per component a mean, a log-scale and, for RGB, a coefficient for each
    number, and one weight: 3·K parameters a pixel for grey images, 10·K for RGB.
    """

    kernel = 1

    def __init__(
        self,
        features: tuple[int, ...],
        shape: tuple[int, int, int],
        components: int = 10,
        normalise: bool = True,
        tail: str = "exact",
    ) -> None:
        channels = shape[0]
        if channels not in (1, 3):
            raise ValueError(f"the logistic mixture takes 1 or 3 channels, not {channels}")
        self_size = components * (10 if channels == 3 else 3)
        super().__init__(features, shape, self_size, normalise)
        self.components = components
        self.tail = tail

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Log-weights (B, K, H, W); means, log-scales, coefficients (B, C, K, H, W)."""
        channels, k = self.shape[0], self.components
        size = (parameters.shape[0], channels, k, *parameters.shape[2:])
        log_weights = torch.log_softmax(parameters[:, :k], dim=1)
        parts = torch.split(parameters[:, k:], channels * k, dim=1)
        coefficients = torch.tanh(parts[2]).view(size) if channels == 3 else None
        log_scales = parts[1].clamp(MIN_LOG_SCALE, MAX_LOG_SCALE).view(size)
        return log_weights, parts[0].view(size), log_scales, coefficients

    def log_prob_elements(self, parameters: Tensor, x: Tensor) -> Tensor:
        log_weights, means, log_scales, coefficients = self._split(parameters)
        value = (x * 2.0 - 1.0).unsqueeze(2)
        if coefficients is not None:
            red, green = value[:, 0], value[:, 1]
            shift = [
                torch.zeros_like(means[:, 0]),
                coefficients[:, 0] * red,
                coefficients[:, 1] * red + coefficients[:, 2] * green,
            ]
            means = means + torch.stack(shift, dim=1)
        inverse = torch.exp(-log_scales)
        centred = value - means
        lower = (centred - 1.0 / 255.0) * inverse
        width = inverse * (2.0 / 255.0)
        first, last = (value < -0.999), (value > 0.999)
        exact = log_logistic_mass(lower, width, first, last)
        if self.tail == "published":
            mass = torch.sigmoid(lower + width) - torch.sigmoid(lower)
            middle = centred * inverse
            density = middle - log_scales - 2.0 * F.softplus(middle) - math.log(127.5)
            bent = torch.where(mass > 1e-5, torch.log(mass.clamp(min=1e-12)), density)
            exact = torch.where(first | last, exact, bent)
        return torch.logsumexp(exact.sum(1) + log_weights, dim=1)

    def mean(self, parameters: Tensor) -> Tensor:
        log_weights, means, _, coefficients = self._split(parameters)
        weights = log_weights.exp()
        if coefficients is None:
            image = (weights * means[:, 0]).sum(1, keepdim=True)
            return ((image + 1) / 2).clamp(0, 1)
        red = means[:, 0]
        green = means[:, 1] + coefficients[:, 0] * red
        blue = means[:, 2] + coefficients[:, 1] * red + coefficients[:, 2] * green
        image = (torch.stack([red, green, blue], dim=1) * weights.unsqueeze(1)).sum(2)
        return ((image + 1) / 2).clamp(0, 1)

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        log_weights, means, log_scales, coefficients = self._split(parameters)
        u = noise.uniform("component", tuple(log_weights.shape[1:])).clamp(1e-7, 1 - 1e-7)
        chosen = torch.argmax(log_weights - torch.log(-torch.log(u)), dim=1)
        index = chosen[:, None, None].expand(-1, means.shape[1], 1, -1, -1)
        mean, log_scale = (t.gather(2, index).squeeze(2) for t in (means, log_scales))
        draw = torch.logit(noise.uniform("pixel", tuple(mean.shape[1:])), eps=1e-7)
        x = mean + torch.exp(log_scale) * draw
        if coefficients is not None:
            c = coefficients.gather(2, index).squeeze(2)
            red = x[:, 0].clamp(-1, 1)
            green = (x[:, 1] + c[:, 0] * red).clamp(-1, 1)
            blue = x[:, 2] + c[:, 1] * red + c[:, 2] * green
            x = torch.stack([red, green, blue], dim=1)
        return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


class Gaussian(LikelihoodHead):
    """N(x; μ(z), σ²) with one learned scalar σ, on dequantised pixels (x + u)/256.

    D·ln 256 is added to the negative log-density, so that it counts 8-bit values like the
    discrete likelihoods and stays comparable with them.
    """

    activate = True

    def __init__(
        self, features: tuple[int, ...], shape: tuple[int, int, int], normalise: bool = True
    ) -> None:
        super().__init__(features, shape, shape[0], normalise)
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def observe(self, images: Tensor, noise: Noise) -> Tensor:
        """(x + u)/256 with u uniform on [0, 1)."""
        return (images.float() + noise.uniform("dequantise", tuple(images.shape[1:]))) / 256.0

    def log_prob_elements(self, parameters: Tensor, x: Tensor) -> Tensor:
        squared = (x - parameters) ** 2 * torch.exp(-2.0 * self.log_sigma)
        constant = 0.5 * math.log(2 * math.pi) + math.log(256.0)
        return -0.5 * squared - self.log_sigma - constant

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.clamp(0, 1)

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        x = parameters + torch.exp(self.log_sigma) * noise.normal(
            "pixel", tuple(parameters.shape[1:])
        )
        return (x * 256.0).floor().clamp(0, 255).to(torch.uint8)


class _LogMass(torch.autograd.Function):
    """f(a, w) = log(σ(a + w) − σ(a)), w > 0, with its gradient in closed form.

    ∂f/∂a = σ(−a − w) − σ(a);  ∂f/∂w = σ(−a − w) + 1/(e^w − 1).  Only a and w are kept for the
    backward pass, a third of what the composed operations would keep.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, lower: Tensor, width: Tensor) -> Tensor:
        ctx.save_for_backward(lower, width)
        out = torch.expm1(-width).neg_().log_()
        out += F.logsigmoid(lower + width)
        out += F.logsigmoid(-lower)
        return out

    @staticmethod
    def backward(ctx: _Saved, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        lower, width = ctx.saved_tensors
        above = torch.sigmoid(-(lower + width))
        by_lower = (above - torch.sigmoid(lower)).mul_(gradients[0])
        by_width = torch.expm1(width).reciprocal_().add_(above).mul_(gradients[0])
        return by_lower, by_width


def log_logistic_mass(lower: Tensor, width: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """log(σ(lower + width) − σ(lower)), open to −∞ where `first` and to +∞ where `last`.

    `width` must be positive and have the shape of `lower`; `first` and `last` broadcast.
    """
    inner = cast(Tensor, _LogMass.apply(lower, width))
    edge = torch.where(first, lower + width, -lower)
    return torch.where(first | last, F.logsigmoid(edge), inner)


def build_likelihood(
    settings: config.Likelihood,
    features: tuple[int, ...],
    shape: tuple[int, int, int],
    normalise: bool,
) -> LikelihoodHead:
    """The head that a configuration names."""
    if settings.kind == "bernoulli":
        return Bernoulli(features, shape, normalise)
    if settings.kind == "gaussian":
        return Gaussian(features, shape, normalise)
    if settings.kind == "logistic":
        return Logistic(features, shape, normalise, settings.tail)
    return LogisticMixture(features, shape, settings.components, normalise, settings.tail)
