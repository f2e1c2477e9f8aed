"""The convolutional VAE: its bound against numerical integration, its probabilities, its shapes."""

from __future__ import annotations

import math

import pytest
import torch

from oodbench.models.layers.noise import FreshNoise
from oodbench.models.vae.config import ConvVAEConfig
from oodbench.models.vae.conv_vae import ConvVAE, gaussian, map_sizes


def built(shape: tuple[int, int, int], **settings: int) -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAEConfig(**{"latent": 4, "width": 4, "levels": 2, **settings}).build(shape).eval()


@pytest.mark.parametrize(
    ("shape", "levels", "sizes"),
    [
        ((1, 28, 28), 3, [(28, 28), (14, 14), (7, 7), (3, 3)]),
        ((3, 32, 32), 3, [(32, 32), (16, 16), (8, 8), (4, 4)]),
        ((1, 9, 13), 2, [(9, 13), (4, 6), (2, 3)]),
    ],
)
def test_maps_of_any_size_come_back_to_the_image(
    shape: tuple[int, int, int], levels: int, sizes: list[tuple[int, int]]
) -> None:
    assert map_sizes(levels, shape) == sizes
    model = built(shape, levels=levels)
    assert model.decoder(torch.randn(2, 4)).shape == (2, *shape[1:], shape[0], 256)
    mean, log_variance = model.encoder(torch.rand(2, *shape))
    assert mean.shape == log_variance.shape == (2, 4)


def test_an_image_that_is_halved_away_is_refused() -> None:
    with pytest.raises(ValueError, match="4 levels halve 8×8 to nothing"):
        ConvVAEConfig(levels=4).build((1, 8, 8))


def test_the_bound_approaches_the_integral_over_z() -> None:
    model = built((1, 4, 4), latent=1)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3.0)
        images = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
        grid = torch.linspace(-8, 8, 4001)
        prior = -0.5 * grid.double() ** 2 - 0.5 * math.log(2 * math.pi)
        exact = torch.stack([
            torch.logsumexp(
                model.log_likelihood(image.expand(len(grid), -1, -1, -1), grid[:, None]) + prior, 0
            ) + math.log(16 / 4000)
            for image in images
        ])  # fmt: skip
        bound = model.log_prob(images, FreshNoise(3), samples=4000)
        single = torch.stack([model.log_prob(images, FreshNoise(3)) for _ in range(400)])
    torch.testing.assert_close(bound, exact, atol=0.02, rtol=0)
    # An unbiased estimate of p(x) for any S, so a lower bound of log p(x) in expectation.
    assert (single.mean(0) < exact + 0.01).all()
    torch.testing.assert_close(torch.logsumexp(single, 0) - math.log(400), exact, atol=0.1, rtol=0)


def test_the_256_values_of_a_number_have_probability_one() -> None:
    model = built((3, 4, 4))
    base = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    images = base.repeat(256, 1, 1, 1)
    images[:, 1, 2, 3] = torch.arange(256, dtype=torch.uint8)
    z = torch.randn(1, 4).expand(256, -1)
    with torch.no_grad():
        joint = model.log_likelihood(images, z)
        logits = model.decoder(z[:1])
    # The probabilities of the layer's own output, its channels being value · C + c.
    raw = model.decoder.layers(z[:1, :, None, None]).detach().view(256, 3, 4, 4)
    torch.testing.assert_close(logits[0].permute(3, 2, 0, 1), raw)
    others = torch.log_softmax(raw.double(), 0).gather(0, base.long())[0]
    others[1, 2, 3] = 0
    assert torch.exp(joint - others.sum()).sum().item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("colours", [1, 3])
def test_training_and_measuring_see_the_same_likelihood(colours: int) -> None:
    """The layer's own softmax where its weights are trained, `pixels` where they are not."""
    model = built((colours, 9, 12), width=8)
    images = torch.randint(0, 256, (11, colours, 9, 12), dtype=torch.uint8)
    z = torch.randn(11, 4)
    trained = model.log_likelihood(images, z)
    assert trained.requires_grad
    with torch.no_grad():
        measured = model.log_likelihood(images, z)
    torch.testing.assert_close(measured, trained.detach(), rtol=1e-6, atol=0)


def test_the_loss_is_the_negative_bound_in_expectation() -> None:
    model = built((1, 8, 8))
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    torch.manual_seed(1)
    with torch.no_grad():
        loss = torch.stack([model.loss(images, 1)["loss"] for _ in range(40)]).mean()
        bound = torch.stack([model.log_prob(images).mean() for _ in range(40)]).mean()
    assert float(loss) == pytest.approx(-float(bound), rel=1e-3)


def test_samples_follow_the_decoder() -> None:
    model = built((1, 8, 8))
    with torch.no_grad():
        model.decoder.layers[-1].weight.zero_()
    drawn = model.sample(200)
    assert drawn.shape == (200, 1, 8, 8)
    assert drawn.dtype == torch.uint8
    # Zero logits are uniform on 0 … 255.
    assert float(drawn.double().mean()) == pytest.approx(127.5, abs=3)
    assert int(drawn.min()) < 5
    assert int(drawn.max()) > 250


def test_gaussian_reads_a_log_variance() -> None:
    q = gaussian(torch.zeros(1), torch.tensor([math.log(4.0)]))
    assert float(q.scale) == pytest.approx(2.0)
