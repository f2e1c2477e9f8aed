"""Convolution as a product of spectra, for large kernels on the CPU.

A κ×κ "same" convolution of an H×W map is circular on a P×Q map with P = H + (κ − 1)/2: what wraps
around falls outside the map.  There it is a product at every frequency: 4·(⌊P/2⌋ + 1)·Q real
multiplications for each pair of channels instead of κ²·H·W (10 times fewer for κ = 5 at 28×28).
The transforms are matrix products too, since every layer here is far smaller than what pays for a
fast Fourier transform.

Where a gradient is asked for, everything is made of differentiable products, so that the gradient
is as fast.  Where none is, a few images at a time go through, and of these a few frequencies of the
first axis at a time, so that what is made stays in the cache.  Rounding stays below that of
the direct sum.  A GPU's own convolutions are faster than this, and `conv2d` is only meant for the
CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

#: Multiplications of the direct sum that cost as much as one here, memory traffic included;
#: measured on one core at 4×4 to 28×28 with 32 to 256 channels: at 4.5 times fewer of them, as for
#: κ = 5, forward and backward take 0.7 of the time of the direct convolution, and at 1.6 to 2.9
#: times fewer, as for κ = 3, they take 1.1 to 2.4 of it.
OVERHEAD = 3.5
#: Numbers of the spectra at one frequency of the first axis that are made at once where no gradient
#: is wanted: a megabyte of them, for each of a few frequencies.
AT_ONCE = 1 << 18


@dataclass(frozen=True)
class _Plan:
    """Real matrices of the transforms between maps and spectra; `half` = ⌊P/2⌋ + 1 frequencies.

    A spectrum is kept as a real and an imaginary part, each (half·Q, B, C): of a real map, the
    first axis needs the non-negative frequencies only.
    """

    half: int
    wide: int
    rows: Tensor  # (2·half, H): real and imaginary part along the first axis
    real: Tensor  # (Q, 2·W): along the second axis, to the real parts
    imaginary: Tensor  # (Q, 2·W): to the imaginary ones
    from_real: Tensor  # (2·W, Q): back along the second axis
    from_imaginary: Tensor  # (2·W, Q)
    back: Tensor  # (H, 2·half)
    kernel_real: Tensor  # (half·Q, κ²): spectrum of a kernel centred on 0
    kernel_imaginary: Tensor  # (half·Q, κ²)


@dataclass(frozen=True)
class Spectrum:
    """The two parts, (half·Q, C, O), of a kernel's spectrum for maps of one size."""

    plan: _Plan
    real: Tensor
    imaginary: Tensor


def pays(size: tuple[int, int], kernel: int, inputs: int, outputs: int) -> bool:
    """Whether the product of spectra is expected to be the faster way on a CPU."""
    height, width = size
    half, wide = _period(height, kernel) // 2 + 1, _period(width, kernel)
    to_spectrum = 2 * half * height * width + 4 * half * wide * width
    work = 4 * half * wide * inputs * outputs + to_spectrum * (inputs + outputs)
    return OVERHEAD * work < kernel**2 * height * width * inputs * outputs


def _period(size: int, kernel: int) -> int:
    """The smallest at which nothing of a circular convolution wraps into the map."""
    return size + kernel // 2


def _angles(count: int, points: Tensor, period: int) -> Tensor:
    """2π f t / period for f = 0 … count − 1 and the given t; (count, len(points)) float64."""
    frequency = torch.arange(count, dtype=torch.float64)
    return 2.0 * math.pi / period * frequency[:, None] * points[None, :]


@cache
@torch.inference_mode(False)  # who asks first may be measuring, and who comes later training
def _plan(size: tuple[int, int], kernel: int) -> _Plan:
    height, width = size
    high, wide = _period(height, kernel), _period(width, kernel)
    half = high // 2 + 1
    down = _angles(half, torch.arange(height, dtype=torch.float64), high)
    along = _angles(wide, torch.arange(width, dtype=torch.float64), wide)
    # Of a real map, frequency f stands for −f too, but for f = 0 and, of an even P, f = P/2.
    share = torch.full((half, 1), 2.0 / high, dtype=torch.float64)
    share[0] = 1.0 / high
    if high % 2 == 0:
        share[-1] = 1.0 / high
    centred = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    tap_down, tap_along = _angles(half, centred, high), _angles(wide, centred, wide)
    taps = (tap_down[:, None, :, None] + tap_along[None, :, None, :]).reshape(half * wide, -1)
    cosine, sine = torch.cos(along), torch.sin(along)

    def interleaved(a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([a, b], dim=1).reshape(2 * half, height)

    real, imaginary = torch.cat([cosine, sine], 1), torch.cat([-sine, cosine], 1)
    matrices = (
        interleaved(torch.cos(down), -torch.sin(down)),
        real,
        imaginary,
        real.T / wide,
        imaginary.T / wide,
        interleaved(share * torch.cos(down), -share * torch.sin(down)).T,
        torch.cos(taps),
        torch.sin(taps),
    )
    return _Plan(half, wide, *(matrix.float().contiguous() for matrix in matrices))


def conv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The cross-correlation of `x` (B, C, H, W) with `weight` (O, C, κ, κ), zero-padded to "same".

    κ must be odd, everything float32 on the CPU.  The result (B, O, H, W) is channels-last.
    """
    return filtered(x, spectrum(weight, (x.shape[2], x.shape[3])), bias)


def spectrum(weight: Tensor, size: tuple[int, int]) -> Spectrum:
    """The spectrum of `weight` (O, C, κ, κ) for maps of `size` (H, W), for `filtered`."""
    outputs, channels, kernel, _ = weight.shape
    plan = _plan(size, kernel)
    taps = weight.permute(2, 3, 1, 0).reshape(kernel * kernel, channels * outputs)
    shape = (plan.half * plan.wide, channels, outputs)
    real, imaginary = plan.kernel_real @ taps, plan.kernel_imaginary @ taps
    return Spectrum(plan, real.view(shape), imaginary.view(shape))


def filtered(x: Tensor, kernel: Spectrum, bias: Tensor) -> Tensor:
    """`conv2d` of `x` with the weight that has this spectrum."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, kernel.real, bias)):
        y = _filtered(x, kernel) + bias
        return y.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
    return _filtered_in_parts(x, kernel, bias)


def _rows(plan: _Plan, x: Tensor) -> Tensor:
    """The spectra of `x` along the first axis, (half, 2·W, B·C).

    The channels of a map lie innermost: every step is one product on all images at once.
    """
    batch, channels, height, width = x.shape
    maps = x.permute(2, 3, 0, 1).reshape(height, width * batch * channels)
    return (plan.rows @ maps).view(plan.half, 2 * width, batch * channels)


def _back(plan: _Plan, columns: Tensor, batch: int) -> Tensor:
    """The maps (H, W, B, O) of the spectra `columns` (half, 2·W, B·O) along the first axis."""
    width = columns.shape[1] // 2
    return (plan.back @ columns.view(2 * plan.half, -1)).view(
        -1, width, batch, columns.shape[2] // batch
    )


def _filtered(x: Tensor, kernel: Spectrum) -> Tensor:
    """`x` times the spectrum of the kernel, as maps (H, W, B, O)."""
    plan, w_real, w_imaginary = kernel.plan, kernel.real, kernel.imaginary
    rows = _rows(plan, x)
    places, channels, _ = w_real.shape
    x_real = (plan.real @ rows).view(places, -1, channels)
    x_imaginary = (plan.imaginary @ rows).view(places, -1, channels)
    y_real = torch.baddbmm(x_real @ w_real, x_imaginary, w_imaginary, alpha=-1.0)
    y_imaginary = torch.baddbmm(x_real @ w_imaginary, x_imaginary, w_real)
    flat = (plan.half, plan.wide, -1)
    columns = plan.from_real @ y_real.view(flat) + plan.from_imaginary @ y_imaginary.view(flat)
    return _back(plan, columns, len(x))


def _filtered_in_parts(x: Tensor, kernel: Spectrum, bias: Tensor) -> Tensor:
    """The same plus `bias`, without gradient, as (B, O, H, W) channels-last."""
    plan, w_real, w_imaginary = kernel.plan, kernel.real, kernel.imaginary
    batch, channels, height, width = x.shape
    outputs, wide = w_real.shape[2], plan.wide
    at_once = min(batch, max(1, AT_ONCE // (2 * wide * max(channels, outputs))))
    y = x.new_empty((batch, height, width, outputs)).permute(0, 3, 1, 2)
    # Of several frequencies together, every thread takes whole products.
    together = min(plan.half, 2 * torch.get_num_threads())
    kernels = [torch.split(part, together * wide) for part in (w_real, w_imaginary)]
    for some, out in zip(torch.split(x, at_once), torch.split(y, at_once), strict=True):
        count = len(some)
        rows = _rows(plan, some)
        columns = rows
        if channels != outputs:
            columns = rows.new_empty(plan.half, 2 * width, count * outputs)
        from_x = rows.new_empty(2, together, wide, count * channels)
        to_y = rows.new_empty(2, together, wide, count * outputs)
        groups = (torch.split(part, together) for part in (rows, columns))
        for row, column, real, imaginary in zip(*groups, *kernels, strict=True):
            now = len(row)
            torch.bmm(plan.real.expand(now, -1, -1), row, out=from_x[0, :now])
            torch.bmm(plan.imaginary.expand(now, -1, -1), row, out=from_x[1, :now])
            x_real, x_imaginary = from_x[:, :now].view(2, now * wide, count, channels)
            y_real, y_imaginary = to_y[:, :now].view(2, now * wide, count, outputs)
            torch.bmm(x_real, real, out=y_real).baddbmm_(x_imaginary, imaginary, alpha=-1.0)
            torch.bmm(x_real, imaginary, out=y_imaginary).baddbmm_(x_imaginary, real)
            torch.bmm(plan.from_real.expand(now, -1, -1), to_y[0, :now], out=column)
            column.baddbmm_(plan.from_imaginary.expand(now, -1, -1), to_y[1, :now])
        out.copy_(_back(plan, columns, count).add_(bias).permute(2, 3, 0, 1))
    return y
