"""PixelCNN++: no pixel sees itself or a later one, probabilities sum to one, samples are images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oodbench.models.autoregressive.config import PixelCNNConfig
from oodbench.models.autoregressive.pixelcnn import PixelCNN
from oodbench.seeding import KeyedNoise


def network(
    shape: tuple[int, int, int], resolutions: int = 3, components: int = 2, blocks: int = 1
) -> PixelCNN:
    torch.manual_seed(0)
    config = PixelCNNConfig(
        filters=6, blocks=blocks, resolutions=resolutions, components=components, dropout=0.0
    )
    model = config.build(shape)
    model.initialise(torch.randint(0, 256, (8, *shape), dtype=torch.uint8))
    return model.double().eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolutions", [1, 3])
def test_parameters_of_a_pixel_depend_on_earlier_pixels_only(
    channels: int, resolutions: int
) -> None:
    model = network((channels, 8, 8), resolutions, blocks=2)
    model.likelihood.forward = model.likelihood.layer.forward  # type: ignore[method-assign]
    x = torch.rand(1, channels, 8, 8, dtype=torch.float64, requires_grad=True)
    seen = torch.zeros(64, 64)
    for place in range(64):
        out = model.parameters_of(x)[0, :, place // 8, place % 8].sum()
        (gradient,) = torch.autograd.grad(out, x)
        seen[place] = gradient[0].abs().sum(0).flatten()
    assert torch.equal(torch.triu(seen), torch.zeros(64, 64))
    # and it does see all earlier pixels that a receptive field of this size can reach
    assert (seen[9:].count_nonzero(1) >= 4).all()
    assert seen[63].count_nonzero() > 30


def test_two_pixels_sum_to_one_over_all_their_values() -> None:
    model = network((1, 1, 2), resolutions=1)
    values = torch.cartesian_prod(torch.arange(256), torch.arange(256)).to(torch.uint8)
    with torch.no_grad():
        log_prob = torch.cat(
            [model.float().log_prob(part.view(-1, 1, 1, 2)) for part in values.split(8192)]
        )
    assert float(log_prob.exp().sum()) == pytest.approx(1.0, abs=1e-4)


def test_log_probability_does_not_depend_on_the_other_images() -> None:
    model = network((3, 8, 8)).float()
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        whole = model.log_prob(images)
        alone = torch.cat([model.log_prob(image[None]) for image in images])
    assert whole.dtype == torch.float64
    assert torch.isfinite(whole).all()
    torch.testing.assert_close(whole, alone, rtol=1e-6, atol=1e-3)


def test_sampling_follows_the_model() -> None:
    """The first pixel's marginal is known exactly: 256 probabilities against many samples."""
    model = network((1, 2, 2), resolutions=1).float()
    n = 4000
    drawn = model.sample(n, KeyedNoise(0, np.arange(n)))
    assert drawn.shape == (n, 1, 2, 2)
    assert drawn.dtype == torch.uint8
    with torch.no_grad():
        x = torch.zeros(256, 1, 2, 2)
        x[:, 0, 0, 0] = torch.arange(256) / 255.0
        elements = model.likelihood.log_prob_elements(model.parameters_of(x), x)
    probability = elements[:, 0, 0].exp().numpy()
    assert probability.sum() == pytest.approx(1.0, abs=1e-4)
    counts = np.bincount(drawn[:, 0, 0, 0].numpy(), minlength=256)
    gap = np.abs(np.cumsum(counts) / n - np.cumsum(probability)).max()
    assert gap < 1.63 / np.sqrt(n)  # Kolmogorov, 1 % level


def test_weights_reload_and_a_shape_that_cannot_be_halved_is_refused() -> None:
    model = network((1, 8, 8)).float()
    again = PixelCNNConfig(filters=6, blocks=1, components=2, dropout=0.0).build((1, 8, 8)).eval()
    again.load_state_dict(model.state_dict())
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(model.log_prob(images), again.log_prob(images))
    with pytest.raises(ValueError, match="divisible by 4, not 7×8"):
        PixelCNNConfig().build((1, 7, 8))


# Salimans et al. 2017 / methods: 160 filters, 5 blocks, 10 mixtures on CIFAR-10, and 80 filters.
@pytest.mark.parametrize(("filters", "millions"), [(160, 53.7), (80, 13.4)])
def test_published_size(filters: int, millions: float) -> None:
    model = PixelCNNConfig(filters=filters).build((3, 32, 32))
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.01)
