"""One layer of a hierarchical VAE: the way down, and the bottom-up inference of the HVAE."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from oodbench.models.hierarchical.blocks import (
    ACTIVATIONS,
    MLP,
    ConvDecoder,
    ConvEncoder,
    Expand,
    ParameterLayer,
    Shape,
)
from oodbench.models.hierarchical.config import ConvStage, HierarchicalConfig, Layer
from oodbench.models.layers.gaussian import Gaussian, from_raw
from oodbench.models.layers.weight_norm import Linear


class GenerativeStage(nn.Module):
    """Layer l on inputs of `shape`: p(z_l|·) and the blocks down to `shape`, for any inference.

    z_l holds `latents` variables of the shape `part`, one after the other in dimension 1, and is
    of the shape `latent`.  A conv latent is passed on as it is; a dense one of a conv stage goes
    through a linear layer to the shape of the stage's feature map, `features`.  An mlp stage
    without hidden layers is linear: its features are its input, and no activation is applied.
    A subclass adds the inference, and `p_projection`.
    """

    def __init__(
        self, shape: Shape, layer: Layer, model: HierarchicalConfig, latents: int = 1
    ) -> None:
        super().__init__()
        self.config, self.in_shape, self.normalise = layer, shape, model.weight_norm
        self.activation = ACTIVATIONS[model.activation]
        self.latents = latents
        stage = layer.stage
        if isinstance(stage, ConvStage):
            self.linear = False
            height, width = -(-shape[1] // stage.stride), -(-shape[2] // stage.stride)
            self.features: Shape = (stage.channels, height, width)
        else:
            self.linear = not stage.hidden
            self.features = (stage.hidden[-1] if stage.hidden else math.prod(shape),)
        is_map = layer.latent.kind == "conv"
        rest = self.features[1:] if is_map else ()
        self.part: Shape = (layer.latent.dim, *rest)
        self.latent: Shape = (latents * layer.latent.dim, *rest)
        self.dense_in_map = isinstance(stage, ConvStage) and not is_map
        self.p_projection: Linear | None = None
        self.p_layer: ParameterLayer | None = None
        self.prior_is_linear = False

    def projection(self, latents: int) -> Linear | None:
        """A linear layer from `latents` variables to the feature map, where one is needed."""
        if not self.dense_in_map:
            return None
        return Linear(latents * self.part[0], math.prod(self.features), self.normalise)

    def build_generative(
        self, above: GenerativeStage | None, aux: Sequence[Shape], model: HierarchicalConfig
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
            entry = self.features if self.dense_in_map else self.latent
            self.decoder = ConvDecoder(entry, size, stage, model, aux)
            self.out_shape: Shape = self.decoder.out_shape
            return self.decoder.hidden_shapes
        widths = [self.latent[0], *reversed(stage.hidden)]
        self.decoder = MLP(widths, model)
        self.out_shape = (widths[-1],)
        return []

    def prior(self, features: Tensor) -> Gaussian:
        """p(z_l | z_(l+1)) from the features d_(l+1) of the stage above."""
        assert self.p_layer is not None
        activated = features if self.prior_is_linear else self.activation(features)
        return from_raw(self.p_layer(activated))

    def generate(
        self, z: Tensor, aux: Sequence[Tensor], expand: Expand | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Features d_l and the outputs of the blocks, which the stage below takes as skips."""
        if isinstance(self.decoder, ConvDecoder):
            out: tuple[Tensor, list[Tensor]] = self.decoder(
                self.as_map(z, self.p_projection), aux, expand
            )
            return out
        return self.decoder(z), []

    def as_map(self, z: Tensor, projection: Linear | None) -> Tensor:
        """z itself, or its projection to the feature map."""
        return z if projection is None else projection(z).view(-1, *self.features)


class Stage(GenerativeStage):
    """Layer l of the HVAE: q(z_l|·) is read from the blocks on the way up."""

    def __init__(self, shape: Shape, layer: Layer, model: HierarchicalConfig, bottom: bool) -> None:
        super().__init__(shape, layer, model)
        stage = layer.stage
        self.encoder: ConvEncoder | MLP
        if isinstance(stage, ConvStage):
            self.encoder = ConvEncoder(shape, stage, model, bottom)
        else:
            self.encoder = MLP([math.prod(shape), *stage.hidden], model)
        self.q_layer = ParameterLayer(self.features, self.latent, self.normalise)
        self.projected = self.features if self.dense_in_map else self.latent
        self.q_projection = self.projection(1)
        self.p_projection = self.projection(1)

    def infer(self, x: Tensor) -> Gaussian:
        """q(z_l | z_(l−1)) from the projected latent below (or the image)."""
        features = self.encoder(x)
        return from_raw(self.q_layer(features if self.linear else self.activation(features)))

    def project_up(self, z: Tensor) -> Tensor:
        """z_l as the input of the encoder stage above."""
        return self.as_map(z, self.q_projection)
