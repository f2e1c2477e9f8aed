"""Ladder VAE: deterministic on the way up, q(z|x) = q(z_L|x) ∏ q(z_l|z>l, x) on the way down.

Sønderby et al. 2016; blocks and merge after hvae-oodd (Havtorn et al. 2021) and biva-pytorch.  All
L>k cost one pass: the trunk infers, and a branch leaves it at its stage.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from oodbench.models.hierarchical.blocks import ConvEncoder, Shape
from oodbench.models.hierarchical.config import ConvStage, HierarchicalConfig, Layer, LVAEConfig
from oodbench.models.hierarchical.ladder import Draw, Encoding
from oodbench.models.hierarchical.stage import GenerativeStage
from oodbench.models.hierarchical.top_down_inference import TopDownModel, TopDownStage
from oodbench.models.layers.noise import Noise


class LVAEStage(TopDownStage):
    """Layer l: the blocks on the way up take h_(l−1) as input and as auxiliary input."""

    def __init__(self, shape: Shape, layer: Layer, model: LVAEConfig, bottom: bool) -> None:
        super().__init__(shape, layer, model)
        assert isinstance(layer.stage, ConvStage)
        self.bottom = bottom
        self.encoder = ConvEncoder(
            shape, layer.stage, model, bottom,
            aux=None if bottom else shape, drop_equal=model.inference_skips == "drop",
        )  # fmt: skip
        self.p_projection = self.projection(1)

    def build_generative(
        self, above: GenerativeStage | None, aux: Sequence[Shape], model: HierarchicalConfig
    ) -> list[Shape]:
        self.build_merge(self.features, above, model)
        return super().build_generative(above, aux, model)

    def ascend(self, below: Tensor) -> Tensor:
        """h_l from h_(l−1) (or the image)."""
        features: Tensor = self.encoder(below, None if self.bottom else below)
        return features


class LVAE(TopDownModel):
    """The model for images of `shape` (C, H, W); see `LVAEConfig` for the architecture."""

    def __init__(self, config: LVAEConfig, shape: tuple[int, int, int]) -> None:
        stages: list[LVAEStage] = []
        below: Shape = shape
        for index, layer in enumerate(config.layers):
            stages.append(LVAEStage(below, layer, config, bottom=index == 0))
            below = stages[-1].features
        super().__init__(config, shape, stages)

    def known(self, x: Tensor) -> tuple[Tensor, ...]:
        """h_1 … h_L: the whole way up."""
        found = [x]
        for stage in self.stages:
            assert isinstance(stage, LVAEStage)
            found.append(stage.ascend(found[-1]))
        return tuple(found[1:])

    def encode(
        self,
        x: Tensor,
        noise: Noise,
        ks: Sequence[int] = (0,),
        encoder_lower: Draw = "sample",
        known: tuple[Tensor, ...] | None = None,
    ) -> Encoding:
        """h_1 … h_L, the same in every branch; nothing is drawn, so `encoder_lower` has no part."""
        return Encoding(h=[[h] * len(ks) for h in known or self.known(x)])

    def drawn_before(self, index: int) -> int:
        """None: z_l is drawn last of z≥l."""
        return 0
