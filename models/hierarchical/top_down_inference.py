"""What the LVAE and BIVA share: q(z_l|z>l, x) is read on the way down, and KL>k follows from it.

On the way up every stage leaves features h_l; on the way down a residual block *merges* h_l with
the features d_(l+1) of what was drawn above (Sønderby et al. 2016; hvae-oodd, biva-pytorch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from oodbench.models.hierarchical.base import HierarchicalModel
from oodbench.models.hierarchical.blocks import ParameterLayer, ResidualBlock, Shape
from oodbench.models.hierarchical.config import ConvStage, HierarchicalConfig, Layer, TopDownConfig
from oodbench.models.hierarchical.ladder import Draw, Encoding, Inferred, KLForm, Slot
from oodbench.models.hierarchical.stage import GenerativeStage
from oodbench.models.hierarchical.top_down_pass import Descent, split, stack
from oodbench.models.layers.branches import Branches
from oodbench.models.layers.gaussian import Gaussian, from_raw, kl_analytic
from oodbench.models.layers.noise import Noise


class TopDownStage(GenerativeStage):
    """Layer l of a model that infers the last `part` of z_l on the way down."""

    def __init__(self, shape: Shape, layer: Layer, model: TopDownConfig, latents: int = 1) -> None:
        super().__init__(shape, layer, model, latents)
        self.drop_merge = model.merge == "published"
        self.q_layer = ParameterLayer(self.features, self.part, self.normalise)

    def build_merge(
        self, h: Shape, above: GenerativeStage | None, model: HierarchicalConfig
    ) -> None:
        """Add the block that merges features of shape `h` with those of the stage above."""
        assert isinstance(self.config.stage, ConvStage)
        size = (self.features[1], self.features[2])
        aux = above.out_shape if above is not None else None
        self.merge = ResidualBlock(
            h, self.config.stage, size, model, aux=aux, drop_equal=self.drop_merge
        )

    def infer(self, h: Tensor, above: Tensor | None) -> Gaussian:
        """q(z_l | z>l, x), of the last `part`, from h_l and d_(l+1) (None at the top)."""
        return from_raw(self.q_layer(self.activation(self.merge(h, above))))


class TopDownModel(HierarchicalModel):
    """Base of the models whose stages infer on the way down."""

    def stage(self, index: int) -> TopDownStage:
        """Stage of layer index + 1."""
        return cast(TopDownStage, self.stages[index])

    def merged(
        self, index: int, encoding: Encoding, slots: Sequence[Slot], above: Tensor | None
    ) -> list[Gaussian]:
        """q(z_l|z>l, x), of the last `part`, in each of the slots (at least one)."""
        h = stack([encoding.h[index][slot.branch] for slot in slots])
        batch = h.shape[0] // len(slots)
        if above is not None:
            rows = torch.split(above, batch)
            above = stack([rows[slot.row] for slot in slots])
        return split(self.stage(index).infer(h, above), batch)

    def infer(
        self,
        index: int,
        encoding: Encoding,
        slots: Sequence[Slot],
        above: Tensor | None,
        noise: Noise,
    ) -> list[Inferred]:
        """Samples of the last `part` of z_l; the slots share one draw of the noise."""
        eps = noise.normal(f"z{index + 1}", self.stage(index).part)
        found = self.merged(index, encoding, slots, above)
        return [Inferred(q, q.mean + q.scale * eps) for q in found]

    def branches(
        self,
        x: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        *,
        lower: Draw = "sample",
        encoder_lower: Draw = "sample",
        kl: KLForm = "sample",
        encoding: Encoding | None = None,
        known: tuple[Tensor, ...] | None = None,
        reverse_kl: bool = False,
    ) -> Branches:
        """As `HierarchicalModel.branches`; with `reverse_kl` also KL>k of every k in `ks`."""
        encoding = encoding or self.encode(x, noise, ks, encoder_lower, known)
        out = super().branches(x, noise, ks, lower=lower, kl=kl, encoding=encoding)
        if not reverse_kl:
            return out
        return replace(out, reverse_kl=self.reverse_kl(encoding, ks, noise, x.shape[0]))

    def reverse_kl(self, encoding: Encoding, ks: Sequence[int], noise: Noise, batch: int) -> Tensor:
        """KL>k (K, B) float64, nats: one sample of E_(q(z>k|x)) KL(p(z≤k|z>k) ‖ q(z≤k|z>k, x)).

        z_k … z_1 are drawn from p, and the closed form KL(p(z_l|·) ‖ q(z_l|·, x)) is added at every
        layer (Li et al. 2022, Eq. 7).  Latents that are inferred on the way up have no q given z>k
        and are left out.  The blocks of the bottom stage are not run.
        """
        total = torch.zeros(len(ks), batch, dtype=torch.float64, device=encoding.h[0][0].device)
        descent = Descent(self, encoding, ks, noise, batch, "sample")
        for index in reversed(range(self.layers)):
            level = descent.draw(index)
            own = [i for i, k in enumerate(ks) if k > index]
            if own:
                slots = [level.slots[level.row[i]] for i in own]
                found = self.merged(index, encoding, slots, level.above)
                size = self.stage(index).part[0]
                for i, slot, q in zip(own, slots, found, strict=True):
                    mean, scale = level.prior[slot.row]
                    p = Gaussian(mean[:, -size:], scale[:, -size:])
                    total[i] += kl_analytic(p, q).flatten(1).sum(1, dtype=torch.float64)
            if index:
                descent.generate(level)
        return total
