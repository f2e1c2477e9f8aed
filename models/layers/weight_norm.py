"""Weight-normalised layers with data-dependent initialisation (Salimans and Kingma 2016).

w = g · v / ‖v‖ per output channel.  Initialisation (HVK code, biva-pytorch): v is Kaiming normal
(fan-in, ReLU gain); one batch is passed through, and g and b are set so that the layer's output
has mean 0 and standard deviation `gain` (1 if not set) per channel over batch and space.
`initialising(model)` switches the layers into that pass.

Within `weights_kept()` what follows from weights alone is computed once, for the many passes of
importance sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.layers import fft_convolution

EPSILON = 1e-8

T = TypeVar("T")
#: By layer and name, inside `weights_kept`.
_KEPT: ContextVar[dict[tuple[nn.Module, str], Any] | None] = ContextVar("kept", default=None)


@contextmanager
def weights_kept() -> Iterator[None]:
    """Compute what follows from a layer's weights at its first pass only, until the block ends.

    For passes without gradient, between which no weight changes.  Of a 5×5 kernel for 28×28 maps it
    keeps a spectrum of 38 times its size (`oodbench.models.layers.fft_convolution`).
    """
    if _KEPT.get() is not None:
        yield
        return
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


class WeightNormLayer(nn.Module):
    """Base: parameters v, g, bias; `out_dim` is the dimension of v that counts output channels.

    `kernels` names what a penalty on kernels is on: v, whose length no output depends on where g
    is there.
    """

    out_dim = 0
    kernels = ("v",)

    def __init__(self, shape: tuple[int, ...], out_features: int, normalise: bool) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.empty(shape))
        size = [1] * len(shape)
        size[self.out_dim] = out_features
        self.g = nn.Parameter(torch.ones(size)) if normalise else None
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.register_buffer("initialised", torch.tensor(False))
        self.initialising = False
        self.gain = 1.0
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming normal v (fan-in, ReLU gain), g = 1, b = 0."""
        fan_in = self.v.numel() // self.v.shape[self.out_dim]
        with torch.no_grad():
            self.v.normal_(0.0, math.sqrt(2.0 / fan_in))
            self.bias.zero_()
            if self.g is not None:
                self.g.fill_(1.0)

    def weight(self) -> Tensor:
        """The weight in use, of the shape of v."""
        if self.g is None:
            return self.v
        return self.once("weight", self._normalised)

    def _normalised(self) -> Tensor:
        dims = [d for d in range(self.v.ndim) if d != self.out_dim]
        scaled: Tensor = self.v * (
            self.g / torch.linalg.vector_norm(self.v, dim=dims, keepdim=True)
        )
        return scaled

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, called once inside `weights_kept`; it reads weights alone."""
        kept = _KEPT.get()
        if kept is None or torch.is_grad_enabled():
            return make()
        if (self, name) not in kept:
            kept[self, name] = make()
        found: T = kept[self, name]
        return found

    def apply_weight(self, x: Tensor) -> Tensor:
        """The linear map itself."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y = self.apply_weight(x)
        return self._initialise(y) if self.initialising else y

    @torch.no_grad()
    def _initialise(self, y: Tensor) -> Tensor:
        self.initialised.fill_(True)  # type: ignore[operator]
        if self.g is None:
            return y
        dims = [d for d in range(y.ndim) if d != 1]
        scale = self.gain * torch.rsqrt(y.var(dims) + EPSILON)
        shift = -y.mean(dims) * scale
        self.g.mul_(scale.view_as(self.g))
        self.bias.mul_(scale).add_(shift)
        view = [1, -1] + [1] * (y.ndim - 2)
        return y * scale.view(view) + shift.view(view)


class Conv2d(WeightNormLayer):
    """κ×κ convolution with TensorFlow-style "same" padding: output size ceil(input / stride)."""

    def __init__(
        self,
        size: tuple[int, int],
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        normalise: bool = True,
    ) -> None:
        super().__init__((outputs, inputs, kernel, kernel), outputs, normalise)
        self.stride = stride
        self.out_size = (-(-size[0] // stride), -(-size[1] // stride))
        top, bottom = same_padding(size[0], kernel, stride)
        left, right = same_padding(size[1], kernel, stride)
        self.symmetric = top == bottom and left == right
        self.padding = (left, right, top, bottom)
        self.by_spectrum = stride == 1 and fft_convolution.pays(size, kernel, inputs, outputs)

    def apply_weight(self, x: Tensor) -> Tensor:
        left, _, top, _ = self.padding
        plain = x.device.type == "cpu" and x.dtype == torch.float32
        if self.by_spectrum and plain and not torch.is_autocast_enabled("cpu"):
            spectrum = self.once("spectrum", self._spectrum)
            return fft_convolution.filtered(x, spectrum, self.bias)
        if self.symmetric:
            return F.conv2d(x, self.weight(), self.bias, self.stride, (top, left))
        return F.conv2d(F.pad(x, self.padding), self.weight(), self.bias, self.stride)

    def _spectrum(self) -> fft_convolution.Spectrum:
        return fft_convolution.spectrum(self.weight(), self.out_size)


class ConvTranspose2d(WeightNormLayer):
    """The transpose of a strided "same" convolution that maps `out_size` to the input's size."""

    out_dim = 1

    def __init__(
        self,
        out_size: tuple[int, int],
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        normalise: bool = True,
    ) -> None:
        super().__init__((inputs, outputs, kernel, kernel), outputs, normalise)
        self.stride = stride
        self.out_size = out_size
        self.crop = tuple(same_padding(n, kernel, stride)[0] for n in out_size)

    def apply_weight(self, x: Tensor) -> Tensor:
        y = F.conv_transpose2d(x, self.weight(), self.bias, self.stride, self.crop)
        height, width = self.out_size
        return y[:, :, :height, :width]


class Linear(WeightNormLayer):
    """Dense layer on flattened input (B, *)."""

    def __init__(self, inputs: int, outputs: int, normalise: bool = True) -> None:
        super().__init__((outputs, inputs), outputs, normalise)

    def apply_weight(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1), self.weight(), self.bias)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis so that a convolution gives ceil(size / stride) outputs."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


@contextmanager
def initialising(model: nn.Module) -> Iterator[None]:
    """Let one forward pass of `model` set g and b of every weight-normalised layer it meets."""
    layers = [m for m in model.modules() if isinstance(m, WeightNormLayer)]
    for layer in layers:
        layer.initialising = True
    try:
        yield
    finally:
        for layer in layers:
            layer.initialising = False
