"""Configurations of the hierarchical VAEs; readable without importing torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from oodbench.models.config import (
    Frozen,
    Likelihood,
    NetworkConfig,
    decayed_beside_kernels,
    more_halvings,
)
from oodbench.models.hierarchical.allocation import allocate

Shape = tuple[int, int, int]


class ConvStage(Frozen):
    """Residual convolution blocks (HVK code; methods in `oodbench.models.hierarchical.blocks`).

    `stride` belongs to one block: the last one of the inference path (``downsample: last``, as
    published) or the first one (``first``: every other convolution then runs on the smaller map).
    The generative path mirrors the order.
    """

    kind: Literal["conv"] = "conv"
    channels: PositiveInt
    kernel: Literal[1, 3, 5, 7] = 3
    stride: Annotated[int, Field(ge=1, le=8)] = 1
    blocks: PositiveInt = 3
    downsample: Literal["first", "last"] = "last"


class MLPStage(Frozen):
    """Fully connected layers of the given widths (none: a linear map), activation between them."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = (256,)


class Latent(Frozen):
    """One stochastic layer: `dim` channels of a feature map (conv) or `dim` units (dense)."""

    kind: Literal["conv", "dense"]
    dim: PositiveInt


def _latent(value: object) -> object:
    """Accept the short forms ``c16`` (conv, 16 channels) and ``d8`` (dense, 8 units)."""
    if isinstance(value, str):
        match = re.fullmatch(r"([cd])([1-9][0-9]*)", value)
        if match is None:
            raise ValueError(f"a latent is written c16 (conv) or d8 (dense), not {value!r}")
        return {"kind": "conv" if match[1] == "c" else "dense", "dim": int(match[2])}
    return value


class Layer(Frozen):
    """A stage of deterministic blocks and the latent variable on top of it."""

    stage: Annotated[ConvStage | MLPStage, Field(discriminator="kind")]
    latent: Annotated[Latent, BeforeValidator(_latent)]

    @model_validator(mode="after")
    def _map_needs_conv(self) -> Layer:
        if self.latent.kind == "conv" and self.stage.kind == "mlp":
            raise ValueError("a conv latent needs a conv stage; an mlp stage takes a dense latent")
        return self


class FreeBits(Frozen):
    """A floor under the KL terms while training.

    ``hvk``: every element of the single-sample KL is floored at nats / C (C = channels or units
    of the layer), as in the HVK code; ``layer``: the batch mean of a layer's analytic KL is
    floored at `nats`.  The floor is `nats` for `constant_epochs`, then falls linearly to 0 over
    `falling_epochs`; from there on the KL is left as it is and the loss is −ELBO.
    """

    kind: Literal["hvk", "layer"] = "hvk"
    nats: Annotated[float, Field(gt=0)] = 2.0
    constant_epochs: Annotated[int, Field(ge=0)] = 200
    falling_epochs: Annotated[int, Field(ge=0)] = 200


class TeacherSettings(Frozen):
    """The teacher of a simplex witness (`oodbench.models.hierarchical.witness_teacher`).

    K = `components`, ε = `smoothing` (both derived from the printed I_T and energy); the mixture is
    fitted on at most `images` training images, `restarts` times.
    """

    components: Annotated[int, Field(ge=2, le=1000)] = 10
    smoothing: Annotated[float, Field(gt=0, lt=1)] = 0.05
    pca: Annotated[int, Field(ge=1, le=1000)] = 50
    restarts: Annotated[int, Field(ge=1, le=100)] = 3
    images: PositiveInt = 10_000


class WitnessSettings(Frozen):
    """A simplex witness on the mean of the top layer (RST-VAE,
    `oodbench.models.hierarchical.simplex_witness`).

    The loss is NLL + `kl_weight` × KL + `weight` × L_TS, the paper's α_KL and λ_TS, whose values
    are ours; with weight 0 the witness only looks on.  `gain` is β (derived: 5).  During the first
    `prefit_epochs` the loss is the squared distance of the mean from the exact code instead.
    """

    teacher: TeacherSettings = TeacherSettings()
    gain: PositiveFloat = 5.0
    weight: Annotated[float, Field(ge=0)] = 10.0
    kl_weight: Annotated[float, Field(ge=0)] = 1.0
    prefit_epochs: Annotated[int, Field(ge=0)] = 0


class Objective(Frozen):
    """What training minimises: the negative ELBO, or the informative loss (LLRada paper, Eq. 10).

    `lower`: how the layers below the branching point are drawn from p in the informative loss.
    `witness` adds the alignment loss of a simplex witness.
    """

    kind: Literal["elbo", "informative"] = "elbo"
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    free_bits: FreeBits | None = None
    lower: Literal["sample", "mode"] = "sample"
    witness: WitnessSettings | None = None

    @property
    def changes(self) -> bool:
        """Whether what is minimised differs from epoch to epoch."""
        prefit = self.witness is not None and self.witness.prefit_epochs > 0
        return self.warmup_epochs > 0 or self.free_bits is not None or prefit

    @model_serializer(mode="wrap")
    def _as_keyed(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without a witness that is not set, so that older fits keep their keys."""
        return {k: v for k, v in handler(self).items() if v is not None or k != "witness"}


class Allocation(Frozen):
    """Latent sizes from a budget: `oodbench.models.hierarchical.allocation`.

    `ratio` between adjacent layers.
    """

    budget: PositiveInt
    ratio: PositiveFloat
    layers: PositiveInt


#: Of a stage of a derived configuration.
MOST_STRIDE = 4


def _strided(layer: Layer) -> Layer:
    """A layer with twice the stride, its kernel as wide as that at least."""
    stage = cast("ConvStage", layer.stage)
    stride = 2 * stage.stride
    kernel = max(stage.kernel, stride + 1 if stride > 2 else stage.kernel)
    return layer.model_copy(
        update={"stage": stage.model_copy(update={"stride": stride, "kernel": kernel})}
    )


class HierarchicalConfig(NetworkConfig):
    """What every hierarchical VAE is configured by, layers listed from the image upwards.

    `dims` replaces the sizes of the layers' latents and is itself forgotten: a budget that gives
    the sizes of another recipe gives its configuration.

    `generative_skips`: a block on the way down takes the output of a block of the stage above
    through a convolution, 1×1 where the maps are equal (``conv1x1``); ``drop`` leaves the equal
    ones out, as hvae-oodd does; ``none`` has no skips.
    """

    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    dims: Annotated[Allocation | None, Field(exclude=True)] = None
    likelihood: Likelihood
    objective: Objective = Objective()
    activation: Literal["relu", "elu", "silu", "leaky-relu"] = "relu"
    gated: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_norm: bool = True
    generative_skips: Literal["conv1x1", "drop", "none"] = "conv1x1"

    def settings_revision(self, training: Mapping[str, object]) -> int:
        """See `oodbench.declare.recipes.Recipe.settings_revision`.

        Free bits once cut off the negative elements of the KL at a floor of 0; early stopping once
        compared the losses of epochs in which another objective was minimised.
        """
        free_bits = self.objective.free_bits is not None
        watched = training.get("early_stop") is not None and self.objective.changes
        decayed = decayed_beside_kernels(training) if self.weight_norm else 0
        return int(free_bits) + int(watched) + decayed

    def for_shape(self, made_for: Shape, shape: Shape) -> HierarchicalConfig:
        """Further halvings as doubled strides, from the bottom stage upwards, 4 at most each.

        A stride of 4 has a kernel of 5 at least, so that no pixel is passed over; halvings that no
        stage can take any more are left out.
        """
        layers = list(self.layers)
        left = more_halvings(made_for, shape)
        while left:
            open_ = [
                i for i, layer in enumerate(layers)
                if layer.stage.kind == "conv" and 2 * layer.stage.stride <= MOST_STRIDE
            ]  # fmt: skip
            if not open_:
                break
            lowest = min(open_, key=lambda i: (cast("ConvStage", layers[i].stage).stride, i))
            layers[lowest] = _strided(layers[lowest])
            left -= 1
        return self.model_copy(update={"layers": tuple(layers)})

    @model_validator(mode="after")
    def _allocated(self) -> HierarchicalConfig:
        if self.dims is None:
            return self
        if self.dims.layers != len(self.layers):
            raise ValueError(
                f"dims is for {self.dims.layers} layers and the model has {len(self.layers)}; set"
                f" dims.layers to {len(self.layers)} or list as many layers"
            )
        sizes = allocate(self.dims.budget, self.dims.ratio, self.dims.layers)
        resized = [
            layer.model_copy(update={"latent": layer.latent.model_copy(update={"dim": size})})
            for layer, size in zip(self.layers, sizes, strict=True)
        ]
        # The model is frozen, and still being made.
        object.__setattr__(self, "layers", tuple(resized))
        object.__setattr__(self, "dims", None)
        return self


class HVAEConfig(HierarchicalConfig):
    """A hierarchical VAE with bottom-up inference."""

    name: ClassVar[str] = "hvae"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.hierarchical.hvae:HVAE"


class TopDownConfig(HierarchicalConfig):
    """What the models that infer on the way down add; their stages are convolutions.

    `merge`: how q(z_l|·) takes the features from above, through a 1×1 convolution, or as hvae-oodd
    is (``published``): not at all where their shape equals that of h_l, so that q is mean field.
    `inference_skips`: every block on the way up takes the features of the stage below through a
    convolution (``conv1x1``); ``drop`` leaves out those of equal shape, as hvae-oodd does.
    """

    merge: Literal["conv1x1", "published"] = "conv1x1"
    inference_skips: Literal["conv1x1", "drop"] = "conv1x1"

    @model_validator(mode="after")
    def _maps_only(self) -> TopDownConfig:
        for number, layer in enumerate(self.layers, start=1):
            if layer.stage.kind != "conv":
                raise ValueError(
                    f"layer {number} has an mlp stage: top-down inference is made for conv stages;"
                    " give every layer a conv stage, or take the model hvae"
                )
        return self


class LVAEConfig(TopDownConfig):
    """The ladder VAE: deterministic on the way up, every z_l inferred on the way down."""

    name: ClassVar[str] = "lvae"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.hierarchical.lvae:LVAE"


class BIVAConfig(TopDownConfig):
    """The bidirectional VAE: two latents of the given kind in every stage but the top one."""

    name: ClassVar[str] = "biva"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.hierarchical.biva:BIVA"
