"""The network of the diffusion prior: residual blocks at one resolution, with long skips.

Kuzina and Tomczak 2024 take the U-Net of guided diffusion (Dhariwal and Nichol 2021, arXiv
2105.05233) with a single level, since u is a few coefficients wide (read in the public code):
`blocks` blocks in, a middle of block, attention and block, `blocks` + 1 blocks out, each of which
takes the output of a block in; time enters as scale and shift after the second normalisation.
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


class Denoiser(nn.Module):
    """ε̂ (B, channels, s, s) from z_t of the same shape and t (B,) in [0, 1]; starts at 0."""

    def __init__(self, channels: int, width: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(TimeBlock(width, width, dropout) for _ in range(blocks))
        self.middle = nn.ModuleList(TimeBlock(width, width, dropout) for _ in range(2))
        self.attention = Attention(width)
        self.up = nn.ModuleList(TimeBlock(2 * width, width, dropout) for _ in range(blocks + 1))
        self.norm = normalisation(width)
        self.last = zeroed(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        time = self.time(embedding(t, self.width))
        kept = [self.first(z)]
        for block in self.down:
            kept.append(block(kept[-1], time))
        y = self.middle[1](self.attention(self.middle[0](kept[-1], time)), time)
        for block in self.up:
            y = block(torch.cat([y, kept.pop()], dim=1), time)
        out: Tensor = self.last(F.silu(self.norm(y)))
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
