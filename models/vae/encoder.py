"""The encoder of the convolutional VAE: strided convolutions, then mean and log-variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from oodbench.models.vae.per_image_layers import BatchNorm2d, Conv2d

if TYPE_CHECKING:
    from oodbench.models.vae.config import ConvVAEConfig


class Encoder(nn.Module):
    """q(z|x): (B, C, H, W) in [0, 1] to mean and log-variance, both (B, latent)."""

    def __init__(self, config: ConvVAEConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = shape[0]
        for level in range(config.levels):
            width = config.width * 2**level
            layers += [
                Conv2d(channels, width, 4, 2, 1, bias=False),
                BatchNorm2d(width),
                nn.ReLU(),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        top = map_sizes(config.levels, shape)[-1]
        self.mean = Conv2d(channels, config.latent, top)
        self.log_variance = Conv2d(channels, config.latent, top)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        return self.mean(h).flatten(1), self.log_variance(h).flatten(1)


def map_sizes(levels: int, shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """(H, W) of the image and of the map after every level."""
    sizes = [(shape[1], shape[2])]
    for _ in range(levels):
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes
