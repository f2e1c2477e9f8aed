"""Configuration of the diffusion model; readable without importing torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from oodbench.models.config import NetworkConfig, more_halvings, most_halvings

Shape = tuple[int, int, int]
Frequency = Annotated[int, Field(ge=0, le=12)]


class DiffusionConfig(NetworkConfig):
    """A diffusion model with a U-Net of `width` × `multipliers` channels, `blocks` a resolution.

    `patch`: blocks of so many pixels a side become channels before the first convolution;
    `fourier`: n for which sin 2ⁿπz and cos 2ⁿπz of a pixel z enter beside it (Kingma et al. 2021),
    without which a network hardly sees noise of a hundredth of the range.  `attention`: at the
    lowest resolution.  What the network predicts (`parametrisation`): the noise ε, or
    v = α ε − σ x (Salimans and Ho 2022).  `schedule`: the noise levels that `sample` and paths
    visit; with the `objective` simple also those that training draws, all weighted alike, while
    bound trains on the bound itself, whose integral is the same for every schedule.  γ = log σ²/α²
    runs from `gamma_min` to `gamma_max`.
    """

    name: ClassVar[str] = "diffusion"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.denoising.diffusion:DiffusionModel"

    width: PositiveInt = 64
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (1, 2)
    blocks: PositiveInt = 1
    attention: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patch: PositiveInt = 1
    fourier: tuple[Frequency, ...] = ()
    parametrisation: Literal["eps", "v"] = "eps"
    schedule: Literal["cosine", "linear"] = "cosine"
    objective: Literal["bound", "simple"] = "bound"
    gamma_min: Annotated[float, Field(ge=-16, le=-2)] = -9.0
    gamma_max: Annotated[float, Field(ge=2, le=16)] = 8.0
    sample_steps: PositiveInt = 50

    @model_validator(mode="after")
    def _network_may_be_built(self) -> DiffusionConfig:
        if self.width % 2:
            raise ValueError(f"width must be even, not {self.width}: half are cosines of the level")
        return self

    def for_shape(self, made_for: Shape, shape: Shape) -> DiffusionConfig:
        """A resolution for every further halving, as many as leave a map of 1×1 at least."""
        wanted = len(self.multipliers) + more_halvings(made_for, shape)
        most = max(1, most_halvings((shape[0], shape[1] // self.patch, shape[2] // self.patch)) + 1)
        levels = min(wanted, most)
        last = self.multipliers[-1:] * max(0, levels - len(self.multipliers))
        return self.model_copy(update={"multipliers": self.multipliers[:levels] + last})
