"""The network of the diffusion prior: residual blocks at one resolution, with long skips.

Kuzina and Tomczak 2024 take the U-Net of guided diffusion (Dhariwal and Nichol 2021, arXiv
2105.05233) with a single level, since u is a few coefficients wide (read in the public code):
`blocks` blocks in, a middle of block, attention and block, `blocks` + 1 blocks out, each of which
takes the output of a block in; time enters as scale and shift after the second normalisation.
"""

from __future__ import annotations

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
