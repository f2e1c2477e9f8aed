"""A ladder of latents as a pass and an objective see it: what a hierarchical VAE has to provide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from oodbench.models.hierarchical.config import HierarchicalConfig
from oodbench.models.hierarchical.stage import GenerativeStage
from oodbench.models.hierarchical.witness_teacher import Witness
from oodbench.models.layers.branches import Branches
from oodbench.models.layers.gaussian import Gaussian
from oodbench.models.layers.likelihoods import LikelihoodHead
from oodbench.models.layers.noise import Noise

Draw = Literal["sample", "mode"]
KLForm = Literal["sample", "analytic"]


@dataclass(frozen=True)
class Encoding:
    """What the way up gives, of layer l + 1 in branch i, each for B images.

    `q[l][i]` and `z[l][i]`: posterior and draw of a latent that is inferred on the way up.
    `h[l][i]`: features from which the way down infers.  A model fills what it has.
    Branches that share a tensor share the very same object.
    """

    q: list[list[Gaussian]] = field(default_factory=list)
    z: list[list[Tensor]] = field(default_factory=list)
    h: list[list[Tensor]] = field(default_factory=list)

    def identity(self, index: int, branch: int) -> tuple[int, ...]:
        """Equal for branches between which nothing of this layer differs."""
        return tuple(id(part[index][branch]) for part in (self.z, self.h) if index < len(part))


class Slot(NamedTuple):
    """A row of a layer: it goes on from row `row` of the layer above, as `branch` has it."""

    branch: int
    row: int
    inferred: bool


class Inferred(NamedTuple):
    """q(z_l|·) and the draw from it, in one slot."""

    q: Gaussian
    z: Tensor


class Ladder(Protocol):
    """A hierarchical VAE of `layers` latents z_1 … z_L; see `HierarchicalModel`."""

    config: HierarchicalConfig
    layers: int
    likelihood: LikelihoodHead
    witness: Witness | None

    def stage(self, index: int) -> GenerativeStage:
        """Stage of layer index + 1."""
        ...

    def infer(
        self,
        index: int,
        encoding: Encoding,
        slots: Sequence[Slot],
        above: Tensor | None,
        noise: Noise,
    ) -> list[Inferred]:
        """z of layer index + 1 from q, in the slots that take it from there."""
        ...

    def drawn_before(self, index: int) -> int:
        """How many leading channels of z_l, l = index + 1, are drawn before z>l is."""
        ...

    def branches(
        self,
        x: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        *,
        lower: Draw = "sample",
        kl: KLForm = "sample",
    ) -> Branches:
        """NLL_k and the elementwise KL terms of the branches `ks`."""
        ...
