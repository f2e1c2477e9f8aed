"""Configuration of the convolutional VAE; readable without importing torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from oodbench.models.config import NetworkConfig, more_halvings, most_halvings

Shape = tuple[int, int, int]


class ConvVAEConfig(NetworkConfig):
    """A convolutional VAE with categorical pixels: `levels` halvings, `width` channels at first."""

    name: ClassVar[str] = "conv-vae"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.vae.conv_vae:ConvVAE"

    latent: PositiveInt = 100
    width: PositiveInt = 32
    levels: PositiveInt = 3

    def for_shape(self, made_for: Shape, shape: Shape) -> ConvVAEConfig:
        """A level for every further halving, as many as leave a map of 1×1 at least."""
        wanted = self.levels + more_halvings(made_for, shape)
        return self.model_copy(update={"levels": min(wanted, most_halvings(shape))})
