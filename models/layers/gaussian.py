"""Diagonal Gaussians of the stochastic layers: σ = log2(1 + 2^s), KL terms per element."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_SCALE = 1e-6
LOG2 = math.log(2.0)


class Gaussian(NamedTuple):
    """Mean and standard deviation of equal shape."""

    mean: Tensor
    scale: Tensor


def from_raw(raw: Tensor) -> Gaussian:
    """First half of dimension 1: mean; second half: raw scale s, σ = log2(1 + 2^s) ≥ 1e-6."""
    mean, s = raw.float().chunk(2, dim=1)
    return Gaussian(mean, (F.softplus(s * LOG2) / LOG2).clamp(min=MIN_SCALE))


def standard(shape: tuple[int, ...], like: Tensor) -> Gaussian:
    """N(0, 1) of `shape` on the device of `like`, float32."""
    mean = torch.zeros(shape, device=like.device)
    return Gaussian(mean, torch.ones_like(mean))


def log_density(z: Tensor, q: Gaussian) -> Tensor:
    """log q(z) per element, nats."""
    return -0.5 * ((z - q.mean) / q.scale) ** 2 - torch.log(q.scale) - 0.5 * math.log(2 * math.pi)


def kl_sample(z: Tensor, q: Gaussian, p: Gaussian) -> Tensor:
    """log q(z) − log p(z) per element, nats: the one-sample estimate of the KL."""
    in_q = (z - q.mean) / q.scale
    in_p = (z - p.mean) / p.scale
    return 0.5 * (in_p**2 - in_q**2) + torch.log(p.scale) - torch.log(q.scale)


def kl_analytic(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) per element, nats."""
    ratio = q.scale / p.scale
    shift = (q.mean - p.mean) / p.scale
    return 0.5 * (ratio**2 + shift**2 - 1.0) - torch.log(ratio)
