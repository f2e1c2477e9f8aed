"""A transposed 4×4 convolution of stride 2 as four products of matrices.

The rows of its output are even or odd, and so are its columns; the values of one such quarter are
products of 2×2 patches of the input with a matrix of their own.  The same numbers as
torch.nn.ConvTranspose2d gives, the channels of a pixel side by side, and on a CPU sooner: a quarter
of a few images fits into the cache, where what comes next finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Quarter:
    """One quarter: where it lies in the output, and the `matrix` (4·in, out) of its patches."""

    row: int
    column: int
    size: tuple[int, int]
    matrix: Tensor

    @property
    def rows(self) -> slice:
        """Rows of the output."""
        return slice(self.row, None, 2)

    @property
    def columns(self) -> slice:
        """Columns of the output."""
        return slice(self.column, None, 2)

    def windows(self, padded: Tensor) -> list[Tensor]:
        """Four views (B, rows, columns, in) of the padded input; side by side, the patches."""
        high, wide = self.size
        # Of the output, row 2m + r reads the padded input's rows m + r and m + r + 1.
        tops, lefts = (self.row, self.row + 1), (self.column, self.column + 1)
        return [padded[:, t : t + high, n : n + wide] for t in tops for n in lefts]

    def patches(self, padded: Tensor) -> Tensor:
        """(B, rows, columns, 4·in): times `matrix`, this quarter of the output."""
        return torch.cat(self.windows(padded), dim=3)


def pad(x: Tensor) -> Tensor:
    """x (B, in, H, W) as (B, H + 2, W + 2, in), with zeros around."""
    return F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))


def split(layer: nn.ConvTranspose2d, size: tuple[int, int]) -> list[Quarter]:
    """The quarters of a layer whose input is of `size` (H, W).

    `layer`: kernel 4, stride 2, padding 1, any output padding, no bias.
    """
    height, width = (2 * n + p for n, p in zip(size, output_padding(layer), strict=True))
    found = []
    for row in (0, 1):
        for column in (0, 1):
            matrix = torch.cat([
                layer.weight[:, :, 3 - row - 2 * down, 3 - column - 2 * right]
                for down in (0, 1) for right in (0, 1)
            ])  # fmt: skip
            part = ((height - row + 1) // 2, (width - column + 1) // 2)
            found.append(Quarter(row, column, part, matrix))
    return found


def quarters(layer: nn.ConvTranspose2d, x: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and values (B, rows, columns, out) of every quarter of layer(x).

    `layer` as of `split`; x (B, in, H, W).
    """
    padded = pad(x)
    for quarter in split(layer, (x.shape[2], x.shape[3])):
        yield quarter.rows, quarter.columns, quarter.patches(padded) @ quarter.matrix


def output_padding(layer: nn.ConvTranspose2d) -> tuple[int, int]:
    """Rows and columns that the layer adds below and to the right."""
    down, right = layer.output_padding
    return int(down), int(right)
