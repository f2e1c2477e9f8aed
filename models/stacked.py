"""Copies of an encoder with weights of their own, one per image, run as one.

Refitting the encoder to every image separately (`oodbench.baselines.likelihood_regret`) moves each
copy apart from the others.  What would be a loop over images is a batch of matrix products here.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.conv_vae import Encoder


class StackedEncoders:
    """Copies of an encoder, one per image: every weight is a row of a stacked tensor."""

    def __init__(self, encoder: Encoder, count: int) -> None:
        self.encoder = encoder
        self.names = [name for name, _ in encoder.named_parameters()]
        self.parameters = [
            p.detach().contiguous().expand(count, *p.shape).clone().requires_grad_()
            for p in encoder.parameters()
        ]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, latent) of x (B, C, H, W), image i through copy i.

        A convolution is a product of its weights with the patches, one for every image; batch
        normalisation is in evaluation mode.
        """
        weights = dict(zip(self.names, self.parameters, strict=True))
        h = x
        for index, layer in enumerate(self.encoder.features):
            weight, bias = (weights.get(f"features.{index}.{what}") for what in ("weight", "bias"))
            if isinstance(layer, nn.Conv2d):
                assert weight is not None
                h = strided(h, weight)
            elif isinstance(layer, nn.BatchNorm2d):
                assert weight is not None
                assert bias is not None
                h = normalised(h, layer, weight, bias)
            else:
                h = layer(h)
        flat = h.flatten(1)
        mean, log_variance = (
            weights[f"{head}.bias"] + row_products(flat, weights[f"{head}.weight"].flatten(2))
            for head in ("mean", "log_variance")
        )
        return mean, log_variance


def strided(x: Tensor, weight: Tensor) -> Tensor:
    """Image i of x (B, C, H, W) convolved with weight[i], (O, C, 4, 4): stride 2, padding 1."""
    patches = F.unfold(x, 4, padding=1, stride=2)
    maps = torch.bmm(weight.flatten(2), patches)
    return maps.view(*maps.shape[:2], x.shape[2] // 2, x.shape[3] // 2)


def normalised(x: Tensor, layer: nn.BatchNorm2d, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, C, H, W) by the running statistics of `layer`, scaled and shifted by rows (B, C)."""
    mean, variance = cast(Tensor, layer.running_mean), cast(Tensor, layer.running_var)
    scale = weight * torch.rsqrt(variance + layer.eps)
    shift = bias - mean * scale
    return torch.addcmul(shift[..., None, None], x, scale[..., None, None])


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
