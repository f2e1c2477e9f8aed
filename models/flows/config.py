"""Configuration of Glow; readable without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import PositiveInt

from oodbench.models.config import NetworkConfig, decayed_beside_kernels


class GlowConfig(NetworkConfig):
    """A Glow of `levels` × `steps`, coupling nets of `hidden` channels."""

    name: ClassVar[str] = "glow"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.flows.glow:Glow"

    levels: PositiveInt = 2
    steps: PositiveInt = 16
    hidden: PositiveInt = 200

    def settings_revision(self, training: Mapping[str, object]) -> int:
        """See `oodbench.declare.recipes.Recipe.settings_revision`.

        In bf16 the map and the determinant that was counted for it once were not the same.
        """
        return decayed_beside_kernels(training) + int(training.get("precision") == "bf16")
