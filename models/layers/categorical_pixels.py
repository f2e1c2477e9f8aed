"""log p(x|h) where a transposed convolution gives 256 logits for every number of the image.

On a CPU most of the time of likelihood regret, and of importance samples of its VAE, goes here:
logits of a megabyte an image, exponentials, and back.  So a few images at a time, a quarter of
their pixels at a time, everything that belongs to them is done while it is in the cache: the
products, Σ_v exp(logit_v), and, where it is asked for, the gradient with respect to h.

Logits are made in units of ln 2, so that the exponentials are powers of two, and are not shifted
by their maximum first; where a sum leaves the range in which float32 keeps its digits, it is taken
again, shifted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from oodbench.models.layers.transposed_convolution import Quarter, pad, split

VALUES = 256
#: Logits that are made at once for every thread: a megabyte of them.
LOGITS_AT_ONCE = 1 << 18
#: Σ 2^logit beyond which the sum is taken again with shifted logits.
SAFE = 2.0**100


def log_prob(layer: nn.ConvTranspose2d, h: Tensor, values: Tensor) -> Tensor:
    """log p(x|h), nats, (B,) float64, of `values` (B, H, W, C) int64 in 0 … 255.

    h (B, in, H/2, W/2) float32 on the CPU; channel v·C + c of layer(h) is the logit of value v of
    colour c.  Differentiable with respect to h alone: ValueError where the layer's weights want a
    gradient too.
    """
    if torch.is_grad_enabled() and layer.weight.requires_grad:
        raise ValueError("only h has a gradient here, but the layer's weights require one")
    parts = [
        replace(part, matrix=by_colour(part.matrix, values.shape[3]))
        for part in split(layer, (h.shape[2], h.shape[3]))
    ]
    if torch.is_grad_enabled() and h.requires_grad:
        return cast(Tensor, _LogProb.apply(h, values, parts))
    return _evaluate(h, values, parts, None)


def by_colour(matrix: Tensor, colours: int) -> Tensor:
    """The columns with the 256 values of a colour side by side, in units of ln 2."""
    rows = matrix.shape[0]
    ordered = matrix.view(rows, VALUES, colours).transpose(1, 2).reshape(rows, colours * VALUES)
    return ordered * (1.0 / math.log(2.0))


class _LogProb(torch.autograd.Function):
    """The gradient of each image's own log p is made on the way forward; backward scales it."""

    @staticmethod
    def forward(ctx, h: Tensor, values: Tensor, parts: list[Quarter]) -> Tensor:  # type: ignore[no-untyped-def]
        slope = torch.zeros_like(pad(h))
        total = _evaluate(h, values, parts, slope)
        ctx.save_for_backward(slope)
        return total

    @staticmethod
    def backward(ctx, above: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (slope,) = ctx.saved_tensors
        inner = slope[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
        return inner * above.to(inner.dtype)[:, None, None, None], None, None


def _evaluate(h: Tensor, values: Tensor, parts: list[Quarter], slope: Tensor | None) -> Tensor:
    """Σ over pixels of log p; `slope`, zeros like the padded h, becomes its gradient if given."""
    padded = pad(h)
    inputs, outputs = parts[0].matrix.shape
    pixels = max(part.size[0] * part.size[1] for part in parts)
    at_once = max(1, torch.get_num_threads() * LOGITS_AT_ONCE // (pixels * outputs))
    patch_room, logit_room = (torch.empty(at_once * pixels * n) for n in (inputs, outputs))
    total = torch.zeros(len(h), dtype=torch.float64)
    for first in range(0, len(h), at_once):
        some = slice(first, first + at_once)
        for part in parts:
            windows = part.windows(padded[some])
            shape = windows[0].shape[:3]
            patches = patch_room[: shape.numel() * inputs].view(*shape, inputs)
            torch.cat(windows, dim=3, out=patches)
            logits = logit_room[: shape.numel() * outputs].view(-1, outputs)
            wanted = values[some, part.rows, part.columns].reshape(-1, 1)
            bits, powers, sums = _bits(patches.view(-1, inputs), part.matrix, wanted, logits)
            total[some] += bits.view(shape[0], -1).sum(1, dtype=torch.float64)
            if slope is not None:
                # Of log2 p with respect to the logits: 1 at the wanted value, less 2^logit / Σ.
                powers.div_(sums).scatter_add_(1, wanted, torch.full_like(bits, -1.0))
                back = (logits @ part.matrix.T).view(*shape, 4, -1)
                for index, window in enumerate(part.windows(slope[some])):
                    window.sub_(back[..., index, :])
    if slope is not None:
        slope.mul_(math.log(2.0))
    return total * math.log(2.0)


def _bits(
    patches: Tensor, matrix: Tensor, wanted: Tensor, room: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log2 p of the `wanted` value of every number, the powers 2^logit, and their sums.

    The powers lie in `room`.
    """
    logits = torch.mm(patches, matrix, out=room).view(-1, VALUES)
    own, sums = _powers(logits, wanted)
    if not bool(((sums > 1.0 / SAFE) & (sums < SAFE)).all()):
        torch.mm(patches, matrix, out=room)
        logits -= logits.amax(1, keepdim=True)
        own, sums = _powers(logits, wanted)
    return own - torch.log2(sums), logits, sums


def _powers(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The `wanted` logits, and Σ 2^logit; 2^logit takes the place of the logits."""
    own = logits.gather(1, wanted)
    return own, logits.exp2_().sum(1, keepdim=True)
