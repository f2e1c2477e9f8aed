"""Configuration of Glow; readable without importing torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from pydantic import PositiveInt

from oodbench.models.config import NetworkConfig, decayed_beside_kernels, more_halvings

Shape = tuple[int, int, int]


class GlowConfig(NetworkConfig):
    """A Glow of `levels` × `steps`, coupling nets of `hidden` channels."""

    name: ClassVar[str] = "glow"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.flows.glow:Glow"

    levels: PositiveInt = 2
    steps: PositiveInt = 16
    hidden: PositiveInt = 200

    def for_shape(self, made_for: Shape, shape: Shape) -> GlowConfig:
        """A level for every further halving, as many as halve the shorter side to 2 at least."""
        wanted = self.levels + more_halvings(made_for, shape)
        levels = min(wanted, max(1, int(math.log2(min(shape[1:])))))
        return self.model_copy(update={"levels": levels})

    def settings_revision(self, training: Mapping[str, object]) -> int:
        """See `oodbench.declare.recipes.Recipe.settings_revision`.

        In bf16 the map and the determinant that was counted for it once were not the same.
        """
        return decayed_beside_kernels(training) + int(training.get("precision") == "bf16")
