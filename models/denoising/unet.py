"""The U-Net of the diffusion model: residual blocks that are told the noise level, long skips.

Ho, Jain, Abbeel 2020 (arXiv 2006.11239) with the blocks of Dhariwal and Nichol 2021; the Fourier
features of the input are those of Kingma et al. 2021.  Sides need not be divisible: a map of odd
size halves upwards and grows back to the size of its skip.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.layers.time_blocks import (
    Attention,
    TimeBlock,
    embedding,
    normalisation,
    zeroed,
)

if TYPE_CHECKING:
    from oodbench.models.denoising.config import DiffusionConfig

#: The level in [0, 1] is told as if it were a step of so many.
LEVELS = 1000.0


class Stage(nn.Module):
    """Blocks of one resolution: a time block takes features and the embedded noise level."""

    def __init__(self, sizes: list[tuple[int, int]], time: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(TimeBlock(i, o, dropout) for i, o in sizes)
        self.times = nn.ModuleList(nn.Linear(time, o) for _, o in sizes)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        for block, project in zip(self.blocks, self.times, strict=True):
            x = block(x, project(time))
        return x


class UNet(nn.Module):
    """What is predicted, (B, C, H, W), from z (B, C, H, W) and the level (B,) in [0, 1]."""

    def __init__(self, config: DiffusionConfig, channels: int) -> None:
        super().__init__()
        self.width, self.patch, self.fourier = config.width, config.patch, config.fourier
        widths = [config.width * factor for factor in config.multipliers]
        time, n = 2 * config.width, config.blocks
        area = config.patch**2
        features = channels * (1 + 2 * len(config.fourier))
        self.time = nn.Sequential(nn.Linear(config.width, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(features * area, widths[0], 3, padding=1)

        def stage(inputs: int, width: int) -> Stage:
            sizes = [(inputs if i == 0 else width, width) for i in range(n)]
            return Stage(sizes, time, config.dropout)

        before = [widths[0], *widths]
        self.down = nn.ModuleList(stage(before[i], w) for i, w in enumerate(widths))
        self.shrink = nn.ModuleList(nn.Conv2d(w, w, 3, 2, 1) for w in widths[:-1])
        self.middle = nn.ModuleList(stage(widths[-1], widths[-1]) for _ in range(2))
        self.attention = Attention(widths[-1]) if config.attention else None
        below = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(stage(w + below[i], w) for i, w in enumerate(widths))
        self.norm = normalisation(widths[0])
        self.last = zeroed(nn.Conv2d(widths[0], channels * area, 3, padding=1))

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        time = self.time(embedding(LEVELS * level, self.width))
        height, width = z.shape[2:]
        x = self.first(self._patches(self._features(z)))
        kept = []
        for index, stage in enumerate(self.down):
            x = stage(x, time)
            kept.append(x)
            if index < len(self.shrink):
                x = self.shrink[index](x)
        x = self.middle[0](x, time)
        if self.attention is not None:
            x = self.attention(x)
        x = self.middle[1](x, time)
        for index in reversed(range(len(self.up))):
            skip = kept[index]
            if x.shape[2:] != skip.shape[2:]:
                grown = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = grown[:, :, : skip.shape[2], : skip.shape[3]]
            x = self.up[index](torch.cat([x, skip], dim=1), time)
        out = self.last(F.silu(self.norm(x)))
        if self.patch > 1:
            out = F.pixel_shuffle(out, self.patch)
        shown: Tensor = out[:, :, :height, :width]
        return shown

    def _features(self, z: Tensor) -> Tensor:
        angles = [2.0**n * math.pi * z for n in self.fourier]
        return torch.cat([z, *(f(a) for a in angles for f in (torch.sin, torch.cos))], dim=1)

    def _patches(self, x: Tensor) -> Tensor:
        if self.patch == 1:
            return x
        missing = [-side % self.patch for side in x.shape[2:]]
        if any(missing):
            x = F.pad(x, (0, missing[1], 0, missing[0]))
        return F.pixel_unshuffle(x, self.patch)
