"""A transposed 4×4 convolution of stride 2 as four products of matrices.

The rows of its output are even or odd, and so are its columns; the values of one such quarter are
products of 2×2 patches of the input with a matrix of their own.  The same numbers as
torch.nn.ConvTranspose2d gives, the channels of a pixel side by side, and on a CPU sooner: a quarter
of a few images fits into the cache, where what comes next finds it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def quarters(layer: nn.ConvTranspose2d, x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and values (B, rows, columns, out) of every quarter of layer(x).

    `layer`: kernel 4, stride 2, padding 1, any output padding, no bias; x (B, in, H, W).
    """
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    height, width = (2 * n + p for n, p in zip(x.shape[2:], output_padding(layer), strict=True))
    for row in (0, 1):
        for column in (0, 1):
            # Of the output, row 2m + row reads the padded input's rows m + row and m + row + 1.
            high, wide = (height - row + 1) // 2, (width - column + 1) // 2
            taps = [(down, right) for down in (0, 1) for right in (0, 1)]
            patches = torch.cat([
                padded[:, row + down : row + down + high, column + right : column + right + wide]
                for down, right in taps
            ], dim=3)  # fmt: skip
            matrix = torch.cat([
                layer.weight[:, :, 3 - row - 2 * down, 3 - column - 2 * right]
                for down, right in taps
            ])  # fmt: skip
            yield slice(row, None, 2), slice(column, None, 2), patches @ matrix


def output_padding(layer: nn.ConvTranspose2d) -> tuple[int, int]:
    """Rows and columns that the layer adds below and to the right."""
    down, right = layer.output_padding
    return int(down), int(right)
