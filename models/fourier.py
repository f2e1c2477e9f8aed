"""Convolution as a product of spectra, for large kernels on the CPU.

A κ×κ "same" convolution of an H×W map is circular on a P×Q map with P ≥ H + κ − 1, where it is a
product at every frequency: 4·(P/2 + 1)·Q real multiplications for each pair of channels instead of
κ²·H·W (8 times fewer for κ = 5 at 28×28).  The transforms are matrix products too, since every
layer here is far smaller than what pays for a fast Fourier transform.  Everything is made of
differentiable products, so that the gradient is as fast; rounding stays below that of the direct
sum.  A GPU's own convolutions are faster than this, and `conv2d` is only meant for the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

#: Multiplications of the direct sum that cost as much as one here, memory traffic included;
#: measured on two cores at 14×14 to 32×32 with 32 to 256 channels.
OVERHEAD = 1.6


@dataclass(frozen=True)
class _Plan:
    """Real matrices of the transforms between maps and spectra; `half` = P/2 + 1 frequencies.

    A spectrum is kept as a real and an imaginary part, each (half·Q, B, C): of a real map, the
    first axis needs the non-negative frequencies only.
    """

    half: int
    wide: int
    rows: Tensor  # (2·half, H): real and imaginary part along the first axis
    real: Tensor  # (Q, 2·W): along the second axis, to the real part
    imaginary: Tensor  # (Q, 2·W)
    from_real: Tensor  # (2·W, Q): back along the second axis
    from_imaginary: Tensor  # (2·W, Q)
    back: Tensor  # (H, 2·half)
    kernel_real: Tensor  # (half·Q, κ²): spectrum of a kernel centred on 0
    kernel_imaginary: Tensor  # (half·Q, κ²)


def pays(size: tuple[int, int], kernel: int, inputs: int, outputs: int) -> bool:
    """Whether the product of spectra is expected to be the faster way on a CPU."""
    half, wide = _padded(size[0], kernel) // 2 + 1, _padded(size[1], kernel)
    height, width = size
    to_spectrum = 2 * half * height * width + 4 * half * wide * width
    work = 4 * half * wide * inputs * outputs + to_spectrum * (inputs + outputs)
    return OVERHEAD * work < kernel**2 * height * width * inputs * outputs


def _padded(size: int, kernel: int) -> int:
    """The next even number that holds the full convolution."""
    full = size + kernel - 1
    return full + full % 2


def _angles(count: int, points: Tensor, period: int) -> Tensor:
    """2π f t / period for f = 0 … count − 1 and the given t; (count, len(points)) float64."""
    frequency = torch.arange(count, dtype=torch.float64)
    return 2.0 * math.pi / period * frequency[:, None] * points[None, :]


@cache
@torch.inference_mode(False)  # who asks first may be measuring, and who comes later training
def _plan(size: tuple[int, int], kernel: int) -> _Plan:
    height, width = size
    high, wide = _padded(height, kernel), _padded(width, kernel)
    half = high // 2 + 1
    down = _angles(half, torch.arange(height, dtype=torch.float64), high)
    along = _angles(wide, torch.arange(width, dtype=torch.float64), wide)
    # Of a real map, frequency f stands for −f too, but for f = 0 and f = P/2.
    share = torch.full((half, 1), 2.0 / high, dtype=torch.float64)
    share[0] = share[-1] = 1.0 / high
    centred = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    tap_down, tap_along = _angles(half, centred, high), _angles(wide, centred, wide)
    taps = (tap_down[:, None, :, None] + tap_along[None, :, None, :]).reshape(half * wide, -1)
    cosine, sine = torch.cos(along), torch.sin(along)

    def interleaved(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([a, b], dim=1).reshape(2 * half, height)

    matrices = (
        interleaved(torch.cos(down), -torch.sin(down)),
        torch.cat([cosine, sine], dim=1),
        torch.cat([-sine, cosine], dim=1),
        torch.cat([cosine.T, sine.T]) / wide,
        torch.cat([-sine.T, cosine.T]) / wide,
        interleaved(share * torch.cos(down), -share * torch.sin(down)).T,
        torch.cos(taps),
        torch.sin(taps),
    )
    return _Plan(half, wide, *(matrix.float().contiguous() for matrix in matrices))


def conv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The cross-correlation of `x` (B, C, H, W) with `weight` (O, C, κ, κ), zero-padded to "same".

    κ must be odd, everything float32 on the CPU; the result (B, O, H, W) is channels-last.
    """
    batch, channels, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    plan = _plan((height, width), kernel)
    places = plan.half * plan.wide

    # The map with its channels innermost: every step is one product on all images at once.
    maps = x.permute(2, 3, 0, 1).reshape(height, width * batch * channels)
    rows = (plan.rows @ maps).view(plan.half, 2 * width, batch * channels)
    x_real = (plan.real @ rows).view(places, batch, channels)
    x_imaginary = (plan.imaginary @ rows).view(places, batch, channels)

    taps = weight.permute(2, 3, 1, 0).reshape(kernel * kernel, channels * outputs)
    w_real = (plan.kernel_real @ taps).view(places, channels, outputs)
    w_imaginary = (plan.kernel_imaginary @ taps).view(places, channels, outputs)

    y_real = torch.baddbmm(x_real @ w_real, x_imaginary, w_imaginary, alpha=-1.0)
    y_imaginary = torch.baddbmm(x_real @ w_imaginary, x_imaginary, w_real)

    flat = (plan.half, plan.wide, batch * outputs)
    columns = plan.from_real @ y_real.view(flat) + plan.from_imaginary @ y_imaginary.view(flat)
    y = plan.back @ columns.view(2 * plan.half, width * batch * outputs)
    y = y.view(height, width, batch, outputs) + bias
    return y.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
