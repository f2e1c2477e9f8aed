"""The convolution by spectra against torch's direct one: values, gradients, and when it is used."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from oodbench.models.layers import fft_convolution
from oodbench.models.layers.weight_norm import Conv2d


@pytest.mark.parametrize("size", [(28, 28), (14, 14), (7, 5), (8, 9), (1, 1)])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_equals_the_direct_convolution(size: tuple[int, int], kernel: int) -> None:
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(3, 4, *size, generator=generator).requires_grad_()
    weight = torch.randn(6, 4, kernel, kernel, generator=generator).requires_grad_()
    bias = torch.randn(6, generator=generator).requires_grad_()
    above = torch.randn(3, 6, *size, generator=generator)
    found = fft_convolution.conv2d(x, weight, bias)
    gradients = torch.autograd.grad(found, (x, weight, bias), above)
    double = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    exact = F.conv2d(*double, padding=kernel // 2)
    torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=1e-4)
    for a, b in zip(gradients, torch.autograd.grad(exact, double, above.double()), strict=True):
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=2e-4)
    with torch.no_grad():
        untracked = fft_convolution.conv2d(x, weight, bias)
        square = fft_convolution.conv2d(x, weight[:4], bias[:4])
    torch.testing.assert_close(untracked, found, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(square, found[:, :4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_parts_of_a_batch_come_back_in_their_places(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 8, 6, generator=generator)
    weight, bias = torch.randn(4, 3, 5, 5, generator=generator), torch.randn(4, generator=generator)
    wide = 6 + 5 // 2
    monkeypatch.setattr(fft_convolution, "AT_ONCE", at_once * 2 * wide * 4)
    found = fft_convolution.conv2d(x, weight, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, padding=2), rtol=1e-4, atol=1e-4)


def test_rounding_is_no_worse_than_that_of_the_direct_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 64, 28, 28, generator=generator)
    weight = torch.randn(64, 64, 5, 5, generator=generator)
    bias = torch.zeros(64)
    exact = F.conv2d(x.double(), weight.double(), padding=2)
    ours = (fft_convolution.conv2d(x, weight, bias) - exact).abs().mean()
    tracked = fft_convolution.conv2d(x, weight.requires_grad_(), bias).detach()
    assert (tracked - exact).abs().mean() < 2 * ours
    weight.requires_grad_(False)
    direct = (F.conv2d(x, weight, padding=2) - exact).abs().mean()
    assert ours < 2 * direct


def test_it_is_chosen_for_large_kernels_on_large_maps_only() -> None:
    assert Conv2d((28, 28), 64, 64, 5).by_spectrum
    assert Conv2d((32, 32), 256, 256, 5).by_spectrum
    assert not Conv2d((28, 28), 1, 64, 5).by_spectrum
    assert not Conv2d((28, 28), 64, 64, 5, stride=2).by_spectrum
    assert not Conv2d((28, 28), 32, 32, 3).by_spectrum
    assert not Conv2d((7, 7), 64, 64, 3).by_spectrum


def test_gradients_flow_after_a_first_use_without_them() -> None:
    fft_convolution._plan.cache_clear()
    x, weight, bias = (
        torch.randn(2, 3, 8, 8),
        torch.randn(4, 3, 5, 5, requires_grad=True),
        torch.zeros(4),
    )
    with torch.inference_mode():
        fft_convolution.conv2d(x, weight, bias)
    fft_convolution.conv2d(x, weight, bias).sum().backward()
    assert weight.grad is not None
    (expected,) = torch.autograd.grad(F.conv2d(x, weight, bias, padding=2).sum(), weight)
    torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-4)
