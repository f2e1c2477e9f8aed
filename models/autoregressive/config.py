"""Configuration of PixelCNN++; readable without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from oodbench.models.config import NetworkConfig, decayed_beside_kernels, more_halvings

Shape = tuple[int, int, int]


class PixelCNNConfig(NetworkConfig):
    """A PixelCNN++ of `resolutions`, each with `blocks` gated residual blocks of `filters`."""

    name: ClassVar[str] = "pixelcnn"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.autoregressive.pixelcnn:PixelCNN"

    filters: PositiveInt = 160
    blocks: PositiveInt = 5
    resolutions: PositiveInt = 3
    components: PositiveInt = 10
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    weight_norm: bool = True

    def for_shape(self, made_for: Shape, shape: Shape) -> PixelCNNConfig:
        """A resolution for every further halving, as many as divide both sides."""
        resolutions = self.resolutions + more_halvings(made_for, shape)
        while shape[1] % 2 ** (resolutions - 1) or shape[2] % 2 ** (resolutions - 1):
            resolutions -= 1
        return self.model_copy(update={"resolutions": resolutions})

    def settings_revision(self, training: Mapping[str, object]) -> int:
        """See `oodbench.declare.recipes.Recipe.settings_revision`."""
        return decayed_beside_kernels(training) if self.weight_norm else 0
