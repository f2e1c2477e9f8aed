"""Hierarchical VAE with bottom-up inference: q(z|x) = q(z1|x) ∏ q(z_(l+1)|z_l).

Havtorn et al. 2021; Li et al. 2022.  Everything is inferred on the way up; branches of partial
bounds share the first encoder stage and the generative stages above the branching point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from oodbench.models.hierarchical.base import HierarchicalModel
from oodbench.models.hierarchical.blocks import Shape
from oodbench.models.hierarchical.config import ConvStage, HVAEConfig
from oodbench.models.hierarchical.ladder import Draw, Encoding, Inferred, Slot
from oodbench.models.hierarchical.stage import Stage
from oodbench.models.hierarchical.top_down_pass import draw_up, split, stack
from oodbench.models.layers.gaussian import Gaussian
from oodbench.models.layers.noise import Noise


class HVAE(HierarchicalModel):
    """The model for images of `shape` (C, H, W); see `HVAEConfig` for the architecture."""

    def __init__(self, config: HVAEConfig, shape: tuple[int, int, int]) -> None:
        stages: list[Stage] = []
        below: Shape = shape
        for index, layer in enumerate(config.layers):
            if isinstance(layer.stage, ConvStage) and len(below) != 3:
                raise ValueError(f"layer {index + 1}: a conv stage cannot stand on an mlp stage")
            stages.append(Stage(below, layer, config, bottom=index == 0))
            below = stages[-1].projected
        super().__init__(config, shape, stages)

    def stage(self, index: int) -> Stage:
        """Stage of layer index + 1."""
        return cast(Stage, self.stages[index])

    def known(self, x: Tensor) -> tuple[Tensor, ...]:
        """Mean and scale of q(z1|x)."""
        return tuple(self.stage(0).infer(x))

    def encode(
        self,
        x: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        encoder_lower: Draw = "sample",
        known: tuple[Tensor, ...] | None = None,
    ) -> Encoding:
        """Draw z1..zL from q for the branches `ks`; see `HierarchicalModel.encode`."""
        batch, inputs = x.shape[0], x
        first = Gaussian(*(known or self.known(x)))
        row = [0] * len(ks)
        encoding = Encoding()
        for index in range(self.layers):
            stage = self.stage(index)
            q = split(stage.infer(inputs) if index else first, batch)
            eps = noise.normal(f"z{index + 1}", stage.latent)
            as_mean = [encoder_lower == "mode" and k > index for k in ks]
            encoding.q.append([q[r] for r in row])
            z, _, row = draw_up(q, row, eps, as_mean)
            encoding.z.append([z[r] for r in row])
            if index < self.layers - 1:
                inputs = stage.project_up(stack(z))
        return encoding

    def infer(
        self,
        index: int,
        encoding: Encoding,
        slots: Sequence[Slot],
        above: Tensor | None,
        noise: Noise,
    ) -> list[Inferred]:
        """What the way up has drawn."""
        q, z = encoding.q[index], encoding.z[index]
        return [Inferred(q[slot.branch], z[slot.branch]) for slot in slots]

    def drawn_before(self, index: int) -> int:
        """Every channel, but for the top layer."""
        return 0 if index == self.layers - 1 else self.stage(index).latent[0]

    def layer_posteriors(
        self, encoding: Encoding, inferred: dict[int, Gaussian]
    ) -> dict[int, Gaussian]:
        """Of every layer in the last branch, where the layers below may be at their means."""
        return {index: q[-1] for index, q in enumerate(encoding.q)}
