"""BIVA: every stage but the top has a latent inferred on the way up and one on the way down.

Maaløe et al. 2019; wiring after biva-pytorch.  z_bu is drawn on the way up from the BU features;
z_td on the way down, from the TD features merged with d_(l+1).  Both paths go up beside each other,
the TD path with the BU features of the same stage as auxiliary input.  z_l = (z_bu, z_td) is
projected and decoded as one, the priors of both are read from d_(l+1), and both KLs count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from oodbench.models.hierarchical.blocks import ConvEncoder, ParameterLayer, Shape
from oodbench.models.hierarchical.config import BIVAConfig, ConvStage, HierarchicalConfig, Layer
from oodbench.models.hierarchical.ladder import Draw, Encoding, Inferred, Slot
from oodbench.models.hierarchical.stage import GenerativeStage
from oodbench.models.hierarchical.top_down_inference import TopDownModel, TopDownStage
from oodbench.models.hierarchical.top_down_pass import draw_up, expander, split, stack
from oodbench.models.layers.gaussian import Gaussian, from_raw
from oodbench.models.layers.noise import Noise


class BIVAStage(TopDownStage):
    """Layer l on BU inputs of the shape `bu` and TD inputs of the shape `td`.

    `skip`: shape of the BU and TD features below, auxiliary input of the BU blocks.  The top stage
    has one latent, read from both paths on the way down.
    """

    def __init__(
        self, bu: Shape, td: Shape, skip: Shape | None, layer: Layer, model: BIVAConfig, top: bool
    ) -> None:
        super().__init__(td, layer, model, latents=1 if top else 2)
        stage = layer.stage
        assert isinstance(stage, ConvStage)
        bottom, drop = skip is None, model.inference_skips == "drop"
        self.top = top
        self.bu_encoder = ConvEncoder(bu, stage, model, bottom, aux=skip, drop_equal=drop)
        self.td_encoder = ConvEncoder(td, stage, model, bottom, aux=self.features, drop_equal=drop)
        self.both: Shape = (2 * self.features[0], *self.features[1:])
        self.q_bu = None if top else ParameterLayer(self.features, self.part, self.normalise)
        self.q_projection = None if top else self.projection(1)
        self.p_projection = self.projection(self.latents)

    @property
    def passed_up(self) -> Shape:
        """Shape of z_bu as the stage above takes it."""
        return self.features if self.dense_in_map else self.part

    def build_generative(
        self, above: GenerativeStage | None, aux: Sequence[Shape], model: HierarchicalConfig
    ) -> list[Shape]:
        self.build_merge(self.both if self.top else self.features, above, model)
        return super().build_generative(above, aux, model)

    def ascend(self, bu: Tensor, td: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor]:
        """BU and TD features of the stage."""
        bu = self.bu_encoder(bu, skip)
        return bu, self.td_encoder(td, bu)

    def infer_up(self, bu: Tensor) -> Gaussian:
        """q(z_bu | ·) from the BU features."""
        assert self.q_bu is not None
        return from_raw(self.q_bu(self.activation(bu)))

    def project_up(self, z: Tensor) -> Tensor:
        """z_bu as the BU input of the stage above."""
        return self.as_map(z, self.q_projection)


class BIVA(TopDownModel):
    """The model for images of `shape` (C, H, W); see `BIVAConfig` for the architecture."""

    def __init__(self, config: BIVAConfig, shape: tuple[int, int, int]) -> None:
        stages: list[BIVAStage] = []
        bu: Shape = shape
        td: Shape = shape
        skip: Shape | None = None
        for index, layer in enumerate(config.layers):
            top = index == len(config.layers) - 1
            stages.append(BIVAStage(bu, td, skip, layer, config, top))
            bu, td, skip = stages[-1].passed_up, stages[-1].features, stages[-1].both
        super().__init__(config, shape, stages)

    def stage(self, index: int) -> BIVAStage:
        """Stage of layer index + 1."""
        return cast(BIVAStage, self.stages[index])

    def known(self, x: Tensor) -> tuple[Tensor, ...]:
        """BU and TD features of the first stage."""
        return self.stage(0).ascend(x, x, None)

    def encode(
        self,
        x: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        encoder_lower: Draw = "sample",
        known: tuple[Tensor, ...] | None = None,
    ) -> Encoding:
        """Draw every z_bu for the branches `ks`, and keep the TD features (at the top, both).

        k counts stages; z_bu of the stages l ≤ k is passed up as its mean or as a sample.
        """
        batch = x.shape[0]
        bu, td = known or self.known(x)
        skip = torch.cat([bu, td], dim=1)
        row = [0] * len(ks)
        encoding = Encoding()
        for index in range(self.layers):
            stage = self.stage(index)
            if index:
                bu, td = stage.ascend(bu, td, skip)
                skip = torch.cat([bu, td], dim=1)
            h = torch.split(skip if stage.top else td, batch)
            encoding.h.append([h[r] for r in row])
            if stage.top:
                break
            q = split(stage.infer_up(bu), batch)
            eps = noise.normal(f"z{index + 1}/bu", stage.part)
            as_mean = [encoder_lower == "mode" and k > index for k in ks]
            encoding.q.append([q[r] for r in row])
            z, histories, row = draw_up(q, row, eps, as_mean)
            encoding.z.append([z[r] for r in row])
            expand = expander(histories, len(q), batch)
            if expand is not None:
                td, skip = expand(td), expand(skip)
            bu = stage.project_up(stack(z))
        return encoding

    def infer(
        self,
        index: int,
        encoding: Encoding,
        slots: Sequence[Slot],
        above: Tensor | None,
        noise: Noise,
    ) -> list[Inferred]:
        """z_bu as the way up has drawn it, and z_td beside it."""
        found = super().infer(index, encoding, slots, above, noise)
        if self.stage(index).top:
            return found
        both = []
        for slot, (q_td, z_td) in zip(slots, found, strict=True):
            q_bu, z_bu = encoding.q[index][slot.branch], encoding.z[index][slot.branch]
            q = Gaussian(*(torch.cat(pair, dim=1) for pair in zip(q_bu, q_td, strict=True)))
            both.append(Inferred(q, torch.cat([z_bu, z_td], dim=1)))
        return both

    def drawn_before(self, index: int) -> int:
        """The channels of z_bu."""
        stage = self.stage(index)
        return 0 if stage.top else stage.part[0]
