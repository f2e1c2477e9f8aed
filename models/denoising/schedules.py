"""Noise schedules: γ = log σ²/α² as a function of time, and the variances that follow from it.

A diffused image is z = α x + σ ε with α² = sigmoid(−γ), σ² = sigmoid(γ) (Kingma et al. 2021,
"Variational Diffusion Models", arXiv 2107.00630).  Time t runs from 0, least noise, to 1:
    cosine   γ(t) = 2 log tan(π t/2)                    α = cos(π t/2)   (Nichol and Dhariwal 2021)
    linear   γ(t) = log(e^B(t) − 1), B(t) = t/10 + 9.95 t²               (Ho et al. 2020 in
             continuous time, Song et al. 2021: β from 0.1 to 20)
each cut to γ_min … γ_max and stretched to t ∈ [0, 1] again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: β_min and (β_max − β_min)/2 of the linear schedule.
BETA = (0.1, 9.95)


def alpha(gamma: Tensor) -> Tensor:
    """α(γ), of the shape of γ."""
    return torch.sigmoid(-gamma).sqrt()


def sigma(gamma: Tensor) -> Tensor:
    """σ(γ), of the shape of γ."""
    return torch.sigmoid(gamma).sqrt()


class Schedule:
    """`kind` cosine or linear, from γ_min `low` to γ_max `high`."""

    def __init__(self, kind: str, low: float, high: float) -> None:
        self.kind, self.low, self.high = kind, low, high
        self._first, self._last = _time(kind, low), _time(kind, high)

    def gamma(self, t: Tensor) -> Tensor:
        """γ(t), increasing, of the shape of t in [0, 1]."""
        s = self._first + (self._last - self._first) * t
        if self.kind == "cosine":
            found = 2.0 * torch.log(torch.tan(0.5 * math.pi * s))
        else:
            found = torch.log(torch.expm1(BETA[0] * s + BETA[1] * s**2))
        return found.clamp(self.low, self.high)

    def slope(self, t: Tensor) -> Tensor:
        """γ'(t), of the shape of t."""
        span = self._last - self._first
        s = self._first + span * t
        if self.kind == "cosine":
            return 2.0 * math.pi * span / torch.sin(math.pi * s)
        b = BETA[0] * s + BETA[1] * s**2
        return span * (BETA[0] + 2.0 * BETA[1] * s) / -torch.expm1(-b)

    def grid(self, steps: int, end: float = 1.0) -> list[float]:
        """γ at `steps` + 1 equidistant times from 0 to `end`, ascending."""
        span = (self._last - self._first) * end
        found = [_gamma(self.kind, self._first + span * i / steps) for i in range(steps + 1)]
        return [min(max(gamma, self.low), self.high) for gamma in found]


def _gamma(kind: str, t: float) -> float:
    """γ(t) of the uncut schedule."""
    if kind == "cosine":
        return 2.0 * math.log(math.tan(0.5 * math.pi * t))
    return math.log(math.expm1(BETA[0] * t + BETA[1] * t**2))


def _time(kind: str, gamma: float) -> float:
    """The t at which the uncut schedule has γ."""
    if kind == "cosine":
        return 2.0 / math.pi * math.atan(math.exp(0.5 * gamma))
    b = math.log1p(math.exp(gamma))
    return (math.sqrt(BETA[0] ** 2 + 4.0 * BETA[1] * b) - BETA[0]) / (2.0 * BETA[1])
