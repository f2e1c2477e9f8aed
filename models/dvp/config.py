"""Configuration of the DVP-VAE; readable without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from oodbench.models.config import (
    Frozen,
    Likelihood,
    NetworkConfig,
    decayed_beside_kernels,
    more_halvings,
)

Shape = tuple[int, int, int]


class Group(Frozen):
    """`latents` feature maps of one resolution, `stride` times smaller than the one below."""

    latents: PositiveInt
    stride: Literal[1, 2] = 2


class DiffusionSettings(Frozen):
    """The diffusion prior of u: γ from `gamma_min` to `gamma_max`, T = `steps`, and its network."""

    steps: Annotated[int, Field(ge=1, le=10_000)] = 25
    gamma_min: float = -6.0
    gamma_max: float = 7.0
    width: PositiveInt = 16
    blocks: PositiveInt = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _rises(self) -> DiffusionSettings:
        if self.gamma_min >= self.gamma_max:
            raise ValueError(
                f"gamma_min is {self.gamma_min:g} and gamma_max {self.gamma_max:g}; noise grows,"
                " so gamma_min must be the smaller"
            )
        return self


class DVPConfig(NetworkConfig):
    """A ladder VAE whose priors see a pseudo-input u, itself under a diffusion prior.

    `groups` from the image upwards; every latent has `channels` channels, the networks
    `features`, inside a bottleneck `bottleneck` times as many.  `encoder_blocks` per group.
    `pseudo_input`: u has as many coefficients along either side.  `sees`: what u and q(z|x) are
    made of, the image as the likelihood observes it (``draw``) or its grey values as the public
    code does (``intensities``); the two differ where the likelihood draws binary pixels.
    """

    name: ClassVar[str] = "dvp-vae"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.dvp.dvp_vae:DVPVAE"

    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    likelihood: Likelihood
    channels: PositiveInt = 1
    features: PositiveInt = 32
    bottleneck: PositiveFloat = 1.0
    encoder_blocks: PositiveInt = 3
    pseudo_input: PositiveInt = 7
    diffusion: DiffusionSettings = DiffusionSettings()
    sees: Literal["draw", "intensities"] = "draw"

    def settings_revision(self, training: Mapping[str, object]) -> int:
        """See `oodbench.declare.recipes.Recipe.settings_revision`."""
        return decayed_beside_kernels(training)

    def for_shape(self, made_for: Shape, shape: Shape) -> DVPConfig:
        """A group of the first one's latents for every further halving, below the others."""
        more = (self.groups[0].model_copy(update={"stride": 2}),) * more_halvings(made_for, shape)
        return self.model_copy(
            update={
                "groups": (*more, *self.groups),
                "pseudo_input": min(self.pseudo_input, *shape[1:]),
            }
        )

    @property
    def layers(self) -> int:
        """The number of groups: what k of the partial bounds counts."""
        return len(self.groups)
