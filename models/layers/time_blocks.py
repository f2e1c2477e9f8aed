"""Parts of denoising networks: residual blocks that are told the time, and attention.

The blocks of guided diffusion (Dhariwal and Nichol 2021, arXiv 2105.05233): group normalisation,
SiLU, and time as scale and shift after the second normalisation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 16
PERIOD = 10_000.0


class TimeBlock(nn.Module):
    """A residual block, `inputs` to `outputs` channels, whose second convolution starts at 0."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = normalisation(inputs), normalisation(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.time = nn.Linear(outputs, 2 * outputs)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        y = F.silu(self.norm2(y) * (1.0 + scale) + shift)
        out: Tensor = self.skip(x) + self.conv2(self.dropout(y))
        return out


class Attention(nn.Module):
    """Every position attends to all, one head; a residual that starts at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalisation(channels)
        self.into = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.into(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        y = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = x + self.out(y.transpose(1, 2).reshape(x.shape))
        return out


def embedding(t: Tensor, width: int) -> Tensor:
    """(B, width): cosines and sines of t at `width` // 2 geometric frequencies from 1 downwards."""
    half = width // 2
    place = torch.arange(half, dtype=t.dtype, device=t.device) / half
    angle = t[:, None] * torch.exp(-math.log(PERIOD) * place)
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=1), (0, width - 2 * half))


def normalisation(channels: int) -> nn.GroupNorm:
    """Group normalisation with 16 groups, or as many as divide both 16 and the channels."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The same layer with weights and bias 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
