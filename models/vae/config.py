"""Configuration of the convolutional VAE; readable without importing torch."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from oodbench.models.config import NetworkConfig


class ConvVAEConfig(NetworkConfig):
    """A convolutional VAE with categorical pixels: `levels` halvings, `width` channels at first."""

    name: ClassVar[str] = "conv-vae"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.vae.conv_vae:ConvVAE"

    latent: PositiveInt = 100
    width: PositiveInt = 32
    levels: PositiveInt = 3
