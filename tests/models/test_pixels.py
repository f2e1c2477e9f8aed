"""log p(x|h) by quarters of a few images against the whole softmax: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oodbench.models.layers import categorical_pixels


def case(
    colours: int, extra: tuple[int, int], scale: float
) -> tuple[nn.ConvTranspose2d, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(colours)
    layer = nn.ConvTranspose2d(3, 256 * colours, 4, 2, 1, extra, bias=False).requires_grad_(False)
    layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
    h = torch.randn(5, 3, 3, 4, generator=generator)
    size = (6 + extra[0], 8 + extra[1])
    return layer, h, torch.randint(0, 256, (5, *size, colours), generator=generator)


def exact(layer: nn.ConvTranspose2d, h: Tensor, values: Tensor) -> Tensor:
    logits = nn.functional.conv_transpose2d(
        h, layer.weight.double(), None, 2, 1, layer.output_padding
    )
    by_value = logits.unflatten(1, (256, -1)).permute(0, 3, 4, 2, 1)
    chosen = torch.log_softmax(by_value, -1).gather(-1, values[..., None])
    return chosen.flatten(1).sum(1)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("extra", [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("scale", [0.1, 2.0, 60.0])
@pytest.mark.parametrize("at_once", [1, 40_000])
def test_equals_the_softmax_in_double_precision(
    colours: int,
    extra: tuple[int, int],
    scale: float,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # With a scale of 60 most sums leave the safe range, and with 2 some do.
    monkeypatch.setattr(categorical_pixels, "LOGITS_AT_ONCE", at_once)
    layer, h, values = case(colours, extra, scale)
    free = h.clone().requires_grad_()
    found = categorical_pixels.log_prob(layer, free, values)
    weights = torch.linspace(-1.0, 2.0, 5, dtype=torch.float64)
    (slope,) = torch.autograd.grad((found * weights).sum(), free)
    double = h.double().requires_grad_()
    expected = exact(layer, double, values)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), double)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-3)
    torch.testing.assert_close(slope, wanted.float(), rtol=1e-3, atol=1e-4 * (1 + scale**2))
    with torch.no_grad():
        torch.testing.assert_close(
            categorical_pixels.log_prob(layer, h, values), found, rtol=0, atol=0
        )


def test_sums_beyond_float32_are_taken_again() -> None:
    layer, h, values = case(1, (0, 0), 60.0)
    logits = nn.functional.conv_transpose2d(h, layer.weight, None, 2, 1)
    assert not torch.exp2(logits / 0.6931).sum(1).isfinite().all()
    assert categorical_pixels.log_prob(layer, h, values).isfinite().all()


def test_a_gradient_of_the_weights_is_refused() -> None:
    layer, h, values = case(1, (0, 0), 0.1)
    layer.requires_grad_(True)
    with pytest.raises(ValueError, match="only h has a gradient here"):
        categorical_pixels.log_prob(layer, h, values)
    with torch.no_grad():
        categorical_pixels.log_prob(layer, h, values)
