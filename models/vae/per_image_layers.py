"""Layers with weights of their own for every image: batches of products, not loops over images."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv2d(nn.Conv2d):
    """torch's own, or with `rows` (B, O, C, κ, κ) one convolution for every image.

    With rows: κ = 4, stride 2 and padding 1, or a kernel of the size of the map.
    """

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        if rows is None:
            return super().forward(x)
        if self.stride == (2, 2):
            return strided(x, rows)
        return row_products(x.flatten(1), rows.flatten(2))[..., None, None]


class BatchNorm2d(nn.BatchNorm2d):
    """torch's own, or with rows (B, C) of weights and biases, by the running statistics."""

    def forward(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        if weight is None or bias is None:
            return super().forward(x)
        mean, variance = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        scale = weight * torch.rsqrt(variance + self.eps)
        shift = bias - mean * scale
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])


def strided(x: Tensor, weight: Tensor) -> Tensor:
    """Image i of x (B, C, H, W) convolved with weight[i], (O, C, 4, 4): stride 2, padding 1."""
    patches = F.unfold(x, 4, padding=1, stride=2)
    maps = torch.bmm(weight.flatten(2), patches)
    return maps.view(*maps.shape[:2], x.shape[2] // 2, x.shape[3] // 2)


def row_products(h: Tensor, weights: Tensor) -> Tensor:
    """Row i of h (B, n) times the matrix (m, n) of its own, weights[i]: (B, m).

    Every product, those of the gradient included, goes through `weights` once along its rows;
    torch's own for such a batch take ten times as long on a CPU.
    """
    return cast(Tensor, _RowProducts.apply(h, weights))


class _RowProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h: Tensor, weights: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(h, weights)
        return torch.bmm(h[:, None], weights.transpose(1, 2))[:, 0]

    @staticmethod
    def backward(ctx, above: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        h, weights = ctx.saved_tensors
        return torch.bmm(above[:, None], weights)[:, 0], above[..., None] * h[:, None]
