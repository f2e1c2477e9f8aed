"""Encoders with weights per image against the encoder itself, image by image, with gradients."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from oodbench.models.vae.config import ConvVAEConfig
from oodbench.models.vae.per_image_encoders import StackedEncoders
from oodbench.models.vae.per_image_layers import row_products


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 13)])
def test_each_copy_is_the_encoder_with_its_own_weights(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = ConvVAEConfig(latent=5, width=4, levels=2).build(shape).double()
    model.train()
    model.encoder(torch.rand(32, *shape, dtype=torch.float64))  # running statistics
    model.eval()
    stacked = StackedEncoders(model.encoder, 3)
    with torch.no_grad():
        for parameter in stacked.parameters:
            parameter += 0.1 * torch.randn_like(parameter)
    x = torch.rand(3, *shape, dtype=torch.float64)
    found = torch.cat(stacked(x), 1)
    above = torch.randn_like(found)
    gradients = torch.autograd.grad((found * above).sum(), stacked.parameters)
    for i in range(3):
        own = [p[i].detach().requires_grad_() for p in stacked.parameters]
        weights = dict(zip(stacked.names, own, strict=True))
        alone = torch.cat(functional_call(model.encoder, weights, (x[i : i + 1],)), 1)
        torch.testing.assert_close(found[i], alone[0])
        wanted = torch.autograd.grad((alone[0] * above[i]).sum(), own)
        for mine, theirs in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(mine[i], theirs)


def test_row_products_and_their_gradients() -> None:
    torch.manual_seed(0)
    h = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(row_products(h, weights), torch.einsum("bn,bmn->bm", h, weights))
    assert torch.autograd.gradcheck(row_products, (h, weights))
