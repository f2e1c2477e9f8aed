"""The deterministic block and its stacks (HVK code, derived from biva-pytorch).

One residual block: [activation] → κ×κ convolution → + auxiliary input → activation → dropout →
κ×κ convolution with the stride (transposed when up-sampling) → [gate] → + residual.  The residual
pads or drops channels, is average-pooled when the map shrinks, and is absent when it grows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oodbench.models.hierarchical.config import ConvStage, HierarchicalConfig
from oodbench.models.layers.weight_norm import Conv2d, ConvTranspose2d, Linear, same_padding

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "elu": F.elu,
    "silu": F.silu,
    "leaky-relu": F.leaky_relu,
}

Shape = tuple[int, ...]
Expand = Callable[[Tensor], Tensor]


class ResidualBlock(nn.Module):
    """One block from `shape` (C, H, W) to (channels, *out_size).

    `out_size` smaller than the input: the second convolution is strided; larger: transposed.
    `aux` is the shape of the auxiliary input, or None; with `drop_equal` it is ignored where it
    equals the shape of conv1's output (hvae-oodd), else a 1×1 convolution takes it.
    """

    def __init__(
        self,
        shape: Shape,
        stage: ConvStage,
        out_size: tuple[int, int],
        model: HierarchicalConfig,
        *,
        stride: int = 1,
        residual: bool = True,
        aux: Shape | None = None,
        drop_equal: bool = False,
    ) -> None:
        super().__init__()
        size, channels, kernel = (shape[1], shape[2]), stage.channels, stage.kernel
        normalise, self.gated = model.weight_norm, model.gated
        self.activation = ACTIVATIONS[model.activation]
        self.out_shape = (channels, *out_size)
        self.residual = residual and out_size[0] <= size[0]
        self.activate_input = residual
        self.dropout = nn.Dropout(model.dropout) if model.dropout else None
        self.conv1 = Conv2d(size, shape[0], channels, kernel, normalise=normalise)
        self.aux_op: Conv2d | ConvTranspose2d | None = None
        if aux and not (drop_equal and aux == (channels, *size)):
            self.aux_op = _aux_op(aux, (channels, *size), kernel, normalise)
        outputs = 2 * channels if model.gated else channels
        self.conv2: Conv2d | ConvTranspose2d
        if out_size[0] > size[0]:
            self.conv2 = ConvTranspose2d(out_size, channels, outputs, kernel, stride, normalise)
        else:
            self.conv2 = Conv2d(size, channels, outputs, kernel, stride, normalise)
        self.stride = stride
        self.channel_padding = channels - shape[0]
        top, bottom = same_padding(size[0], 3, stride)
        left, right = same_padding(size[1], 3, stride)
        self.pool_padding = (left, right, top, bottom)

    def forward(self, x: Tensor, aux: Tensor | None = None, expand: Expand | None = None) -> Tensor:
        """`expand` repeats the rows of `aux` when x holds several branches of it."""
        y = self.conv1(self.activation(x) if self.activate_input else x)
        if self.aux_op is not None and aux is not None:
            extra = self.aux_op(self.activation(aux))
            y = y + (extra if expand is None else expand(extra))
        y = self.activation(y)
        if self.dropout is not None:
            y = self.dropout(y)
        y = self.conv2(y)
        if self.gated:
            value, gate = y.chunk(2, dim=1)
            y = value * torch.sigmoid(gate)
        out: Tensor = y + self._shortcut(x) if self.residual else y
        return out

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.channel_padding:
            x = F.pad(x, (0, 0, 0, 0, 0, self.channel_padding))
        if self.stride > 1:
            x = F.avg_pool2d(F.pad(x, self.pool_padding), 3, self.stride)
        return x


def _aux_op(aux: Shape, target: Shape, kernel: int, normalise: bool) -> Conv2d | ConvTranspose2d:
    """The map from an auxiliary input to conv1's output."""
    if aux[1] > target[1]:
        stride = -(-aux[1] // target[1])
        return Conv2d((aux[1], aux[2]), aux[0], target[0], kernel, stride, normalise)
    if aux[1] < target[1]:
        stride = -(-target[1] // aux[1])
        size = (target[1], target[2])
        return ConvTranspose2d(size, aux[0], target[0], kernel, stride, normalise)
    return Conv2d((target[1], target[2]), aux[0], target[0], 1, normalise=normalise)


class ConvEncoder(nn.Module):
    """The blocks of a stage on the way up: (C, H, W) to features `out_shape`.

    `aux` is the shape of an auxiliary input that every block takes, or None.
    """

    def __init__(
        self,
        shape: Shape,
        stage: ConvStage,
        model: HierarchicalConfig,
        bottom: bool,
        aux: Shape | None = None,
        drop_equal: bool = False,
    ) -> None:
        super().__init__()
        blocks = []
        strided = 0 if stage.downsample == "first" else stage.blocks - 1
        for index in range(stage.blocks):
            stride = stage.stride if index == strided else 1
            size = (-(-shape[1] // stride), -(-shape[2] // stride))
            residual = index > 0 or not bottom
            block = ResidualBlock(
                shape, stage, size, model,
                stride=stride, residual=residual, aux=aux, drop_equal=drop_equal,
            )  # fmt: skip
            shape = block.out_shape
            blocks.append(block)
        self.blocks = nn.ModuleList(blocks)
        self.out_shape = shape

    def forward(self, x: Tensor, aux: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, aux)
        return x


class ConvDecoder(nn.Module):
    """The blocks of a stage on the way down, in reversed order, with skips from the stage above.

    `aux` holds the shapes of the outputs of the blocks above, first block first; block i takes
    the output of block i above.
    """

    def __init__(
        self,
        shape: Shape,
        out_size: tuple[int, int],
        stage: ConvStage,
        model: HierarchicalConfig,
        aux: Sequence[Shape],
    ) -> None:
        super().__init__()
        blocks = []
        strided = stage.blocks - 1 if stage.downsample == "first" else 0
        for index in range(stage.blocks):
            up = index == strided and stage.stride > 1
            size = out_size if up else (shape[1], shape[2])
            block = ResidualBlock(
                shape,
                stage,
                size,
                model,
                stride=stage.stride if up else 1,
                residual=index > 0,
                aux=aux[min(index, len(aux) - 1)] if aux else None,
                drop_equal=model.generative_skips == "drop",
            )
            shape = block.out_shape
            blocks.append(block)
        self.blocks = nn.ModuleList(blocks)
        self.out_shape = shape
        self.hidden_shapes: list[Shape] = [block.out_shape for block in blocks]

    def forward(
        self, x: Tensor, aux: Sequence[Tensor], expand: Expand | None
    ) -> tuple[Tensor, list[Tensor]]:
        """The features and every block's output."""
        hidden = []
        for index, block in enumerate(self.blocks):
            x = block(x, aux[min(index, len(aux) - 1)] if aux else None, expand)
            hidden.append(x)
        return x, hidden


class MLP(nn.Module):
    """Dense layers between consecutive `widths`, activation between them, linear at the end.

    A single width is the identity on flattened input.
    """

    def __init__(self, widths: Sequence[int], model: HierarchicalConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(a, b, model.weight_norm) for a, b in pairwise(widths))
        self.activation = ACTIVATIONS[model.activation]

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for index, layer in enumerate(self.layers):
            x = layer(self.activation(x) if index else x)
        return x


class ParameterLayer(nn.Module):
    """Features to the raw parameters (2·d first) of a Gaussian of shape `latent`.

    3×3 convolution where both are maps, else dense.
    """

    def __init__(self, features: Shape, latent: Shape, normalise: bool) -> None:
        super().__init__()
        self.out_shape = (2 * latent[0], *latent[1:])
        self.layer: Conv2d | Linear
        if len(features) == 3 and len(latent) == 3:
            size = (features[1], features[2])
            self.layer = Conv2d(size, features[0], 2 * latent[0], 3, normalise=normalise)
        else:
            self.layer = Linear(math.prod(features), math.prod(self.out_shape), normalise)

    def forward(self, features: Tensor) -> Tensor:
        raw: Tensor = self.layer(features)
        return raw.view(-1, *self.out_shape)
