"""A transposed convolution by quarters against torch's own, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oodbench.models.layers.transposed_convolution import quarters


@pytest.mark.parametrize("extra", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 2)])
def test_quarters_are_the_transposed_convolution(
    size: tuple[int, int], extra: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 7, 4, 2, 1, extra, bias=False).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected = layer(x)
    found = torch.full_like(expected, float("nan"))
    for rows, columns, values in quarters(layer, x):
        assert found[:, :, rows, columns].isnan().all()
        found[:, :, rows, columns] = values.permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected)
    inputs = (x, layer.weight)
    weights = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
