"""The ground of every configuration: frozen, validated, and readable without importing torch.

A model is registered by its configuration class, which names the model (`name`), its `revision`
(bumped whenever the same configuration and seed would give other weights) and the network's class.
A configuration is plain data: it imports no network, it names one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, PositiveInt

if TYPE_CHECKING:
    import torch


class Frozen(BaseModel):
    """Base of every configuration: immutable, an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def decayed_beside_kernels(training: Mapping[str, object]) -> int:
    """1 with `kernel_decay`: for models of which it once also took scales and means for kernels."""
    return 0 if training.get("kernel_decay") is None else 1


class NetworkConfig(Frozen):
    """A configuration that a network is built from.

    `network_class` is where its class stands, ``package.module:Class``; it takes the configuration
    and the shape (C, H, W) of the images.
    """

    name: ClassVar[str]
    revision: ClassVar[int] = 1
    network_class: ClassVar[str]

    def build(self, shape: tuple[int, int, int]) -> torch.nn.Module:
        """The untrained network for images of `shape` (C, H, W)."""
        return cast("torch.nn.Module", resolve_name(self.network_class)(self, shape))

    def for_shape(
        self, made_for: tuple[int, int, int], shape: tuple[int, int, int]
    ) -> NetworkConfig:
        """The configuration for images of another `shape` (C, H, W) than it is made for.

        Of a family that has nothing to adapt, its own.
        """
        return self


def more_halvings(made_for: tuple[int, int, int], shape: tuple[int, int, int]) -> int:
    """How often the side √(HW) must be halved to come nearest to that of `made_for`; 0 or more."""
    return max(0, round(math.log2(shape[1] * shape[2] / (made_for[1] * made_for[2])) / 2))


def most_halvings(shape: tuple[int, int, int]) -> int:
    """How often both sides of an image can be halved, rounded down, 1 at least."""
    return max(1, int(math.log2(min(shape[1:]))))


class Likelihood(Frozen):
    """p(x | z1); see `oodbench.models.layers.likelihoods`.

    `tail`: ``exact`` evaluates the mass of a bin in a form that never cancels; ``published`` adds
    1e-7 inside the log (logistic) or switches to the density below 1e-5 (mixture), as the public
    codes do, which caps or bends the tail.
    """

    kind: Literal["bernoulli", "logistic", "logistic-mixture", "gaussian"]
    components: PositiveInt = 10
    tail: Literal["exact", "published"] = "exact"


#: Where configurations of the families stand, for imports of them from here.
_FAMILIES = {
    "oodbench.models.autoregressive.config": ("PixelCNNConfig",),
    "oodbench.models.classifiers.config": ("MutationClassifierConfig",),
    "oodbench.models.flows.config": ("GlowConfig",),
    "oodbench.models.hierarchical.config": (
        "Allocation", "BIVAConfig", "ConvStage", "FreeBits", "HVAEConfig", "HierarchicalConfig",
        "LVAEConfig", "Latent", "Layer", "MLPStage", "Objective", "TeacherSettings",
        "TopDownConfig", "WitnessSettings",
    ),
    "oodbench.models.vae.config": ("ConvVAEConfig",),
}  # fmt: skip


def __getattr__(name: str) -> object:
    for module, names in _FAMILIES.items():
        if name in names:
            return resolve_name(f"{module}:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
