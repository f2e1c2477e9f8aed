"""One layer of a hierarchical VAE: its blocks, and the parameters of q(z_l|·) and p(z_l|·)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from oodbench.models.blocks import (
    ACTIVATIONS,
    MLP,
    ConvDecoder,
    ConvEncoder,
    Expand,
    ParameterLayer,
    Shape,
)
from oodbench.models.config import ConvStage, HVAEConfig, Layer
from oodbench.models.gaussian import Gaussian, from_raw
from oodbench.models.weightnorm import Linear


class Stage(nn.Module):
    """Layer l on inputs of `shape`.

    A conv latent is passed on as it is; a dense one of a conv stage goes through a linear layer
    to the shape of the stage's feature map.  An mlp stage without hidden layers is linear: its
    features are its input, and no activation is applied to them.
    """

    def __init__(self, shape: Shape, layer: Layer, model: HVAEConfig, bottom: bool) -> None:
        super().__init__()
        self.config, self.in_shape, self.normalise = layer, shape, model.weight_norm
        self.activation = ACTIVATIONS[model.activation]
        stage = layer.stage
        self.encoder: ConvEncoder | MLP
        if isinstance(stage, ConvStage):
            self.linear = False
            self.encoder = ConvEncoder(shape, stage, model, bottom)
            self.features: Shape = self.encoder.out_shape
        else:
            widths = [math.prod(shape), *stage.hidden]
            self.linear = not stage.hidden
            self.encoder = MLP(widths, model)
            self.features = (widths[-1],)
        is_map = layer.latent.kind == "conv"
        self.latent: Shape = (layer.latent.dim, *(self.features[1:] if is_map else ()))
        self.q_layer = ParameterLayer(self.features, self.latent, self.normalise)
        dense_in_map = isinstance(stage, ConvStage) and not is_map
        self.projected = self.features if dense_in_map else self.latent
        self.q_projection = self._projection() if dense_in_map else None
        self.p_projection = self._projection() if dense_in_map else None
        self.p_layer: ParameterLayer | None = None
        self.prior_is_linear = False

    def _projection(self) -> Linear:
        return Linear(self.latent[0], math.prod(self.features), self.normalise)

    def build_generative(
        self, above: Stage | None, aux: Sequence[Shape], model: HVAEConfig
    ) -> list[Shape]:
        """Add p(z_l|·) and the blocks down to `in_shape`; return the shapes of their outputs.

        `aux`: shapes of the outputs of the blocks above, used as skips by a conv stage.
        """
        if above is not None:
            self.p_layer = ParameterLayer(above.out_shape, self.latent, self.normalise)
            self.prior_is_linear = above.linear
        stage = self.config.stage
        self.decoder: ConvDecoder | MLP
        if isinstance(stage, ConvStage):
            size = (self.in_shape[1], self.in_shape[2])
            self.decoder = ConvDecoder(self.projected, size, stage, model, aux)
            self.out_shape: Shape = self.decoder.out_shape
            return self.decoder.hidden_shapes
        widths = [self.latent[0], *reversed(stage.hidden)]
        self.decoder = MLP(widths, model)
        self.out_shape = (widths[-1],)
        return []

    def infer(self, x: Tensor) -> Gaussian:
        """q(z_l | z_(l−1)) from the projected latent below (or the image)."""
        features = self.encoder(x)
        return from_raw(self.q_layer(features if self.linear else self.activation(features)))

    def prior(self, features: Tensor) -> Gaussian:
        """p(z_l | z_(l+1)) from the features d_(l+1) of the stage above."""
        assert self.p_layer is not None
        activated = features if self.prior_is_linear else self.activation(features)
        return from_raw(self.p_layer(activated))

    def project_up(self, z: Tensor) -> Tensor:
        """z_l as the input of the encoder stage above."""
        return self._as_map(z, self.q_projection)

    def generate(
        self, z: Tensor, aux: Sequence[Tensor], expand: Expand | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Features d_l and the outputs of the blocks, which the stage below takes as skips."""
        if isinstance(self.decoder, ConvDecoder):
            out: tuple[Tensor, list[Tensor]] = self.decoder(
                self._as_map(z, self.p_projection), aux, expand
            )
            return out
        return self.decoder(z), []

    def _as_map(self, z: Tensor, projection: Linear | None) -> Tensor:
        return z if projection is None else projection(z).view(-1, *self.features)
