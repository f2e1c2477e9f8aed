"""The networks of the DVP-VAE's ladder: bottleneck blocks, the way up, one latent of the way down.

Kuzina and Tomczak 2024 (arXiv 2412.01373); read in the public code: bottlenecks of 1×1, 3×3, 3×3,
1×1 convolutions with SiLU and no normalisation; on the way up the activation comes before every
convolution, on the way down after each but the last; the last convolution of a parameter network
starts at 0, beside a 1×1 shortcut that does not; all latents of a group share the features of the
way up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.dvp.config import DVPConfig
from oodbench.models.layers.gaussian import Gaussian

LOG_VARIANCE = (-10.0, 1.0)
Size = tuple[int, int]


class Bottleneck(nn.Module):
    """`inputs` to `outputs` channels through `hidden`; `first`: activation before each convolution.

    `zero`: the last convolution starts at 0.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, *, first: bool = False, zero: bool = False
    ) -> None:
        super().__init__()
        self.first = first
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(inputs, hidden, 1),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.Conv2d(hidden, hidden, 3, padding=1),
            ]
        )
        self.last = nn.Conv2d(hidden, outputs, 1)
        if zero:
            nn.init.zeros_(self.last.weight)
            assert self.last.bias is not None
            nn.init.zeros_(self.last.bias)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = conv(F.silu(y)) if self.first else F.silu(conv(y))
        out: Tensor = self.skip(x) + self.last(F.silu(y) if self.first else y)
        return out


class Ascent(nn.Module):
    """Features (B, F, H, W) of every group, bottom first, from an image in [−1, 1].

    A group runs its blocks on the map of the group below and then shrinks it by averaging.
    """

    def __init__(self, config: DVPConfig, channels: int) -> None:
        super().__init__()
        features = config.features
        self.strides = [group.stride for group in config.groups]
        self.first = nn.Conv2d(channels, features, 1)
        self.groups = nn.ModuleList(
            nn.Sequential(
                *(
                    Bottleneck(features, hidden(config), features, first=True)
                    for _ in range(config.encoder_blocks)
                )
            )
            for _ in config.groups
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        found = [self.first(x)]
        for stride, group in zip(self.strides, self.groups, strict=True):
            y = group(found[-1])
            found.append(F.avg_pool2d(y, stride, ceil_mode=True) if stride > 1 else y)
        return found[1:]


class Conditional(NamedTuple):
    """p(z|·) and what its network adds to the state beside it; None at the lowest latent."""

    p: Gaussian
    residual: Tensor | None


class LatentBlock(nn.Module):
    """One latent on the way down: p(z|z above, u), q(z|z above, x) and the state below.

    The lowest one leaves no state: the likelihood sees the latents alone.
    """

    def __init__(self, config: DVPConfig, context: int, lowest: bool) -> None:
        super().__init__()
        features, inside, z = config.features, hidden(config), config.channels
        self.parameters_of_z = 2 * z
        self.lowest = lowest
        outputs = 2 * z if lowest else 2 * z + features
        self.prior = Bottleneck(features + context, inside, outputs, zero=True)
        self.posterior = Bottleneck(features, inside, 2 * z, zero=True)
        if lowest:
            return
        self.up = nn.Conv2d(z, features, 1)
        self.block = Bottleneck(features, inside, features)
        latents = sum(group.latents for group in config.groups)
        with torch.no_grad():
            self.up.weight *= math.sqrt(1.0 / latents)
            self.block.last.weight *= math.sqrt(1.0 / latents)

    def conditional(self, state: Tensor, context: Tensor) -> Conditional:
        """p(z|·) from the state (B, F, h, w) and u's image at this size (B, C, h, w)."""
        out = self.prior(torch.cat([state, context], dim=1))
        p = gaussian(out[:, : self.parameters_of_z])
        return Conditional(p, None if self.lowest else out[:, self.parameters_of_z :])

    def inferred(self, state: Tensor, features: Tensor) -> Gaussian:
        """q(z|·) from the state and the features of the way up."""
        return gaussian(self.posterior((features + state) / math.sqrt(2.0)))

    def below(self, state: Tensor, residual: Tensor, z: Tensor) -> Tensor:
        """The state after z (B, channels, h, w)."""
        out: Tensor = self.block(state + residual + self.up(z))
        return out


def gaussian(raw: Tensor) -> Gaussian:
    """First half of dimension 1: mean; second half: log-variance, within [−10, 1]."""
    mean, log_variance = raw.float().chunk(2, dim=1)
    return Gaussian(mean, torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE)))


def hidden(config: DVPConfig) -> int:
    """Channels inside a bottleneck."""
    return max(1, int(config.features * config.bottleneck))


def resize(x: Tensor, size: Size) -> Tensor:
    """x (B, C, h, w) interpolated bilinearly to `size`; itself where it has that size."""
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def map_sizes(config: DVPConfig, shape: tuple[int, int, int]) -> list[Size]:
    """(h, w) of every group, bottom first."""
    size, found = (shape[1], shape[2]), []
    for group in config.groups:
        size = (-(-size[0] // group.stride), -(-size[1] // group.stride))
        found.append(size)
    return found
