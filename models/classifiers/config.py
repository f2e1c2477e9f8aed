"""Configurations of the models that learn from labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from oodbench.models.config import (
    Frozen,
    NetworkConfig,
    decayed_beside_kernels,
    more_halvings,
    most_halvings,
)

Shape = tuple[int, int, int]


class ConvNetwork(Frozen):
    """3×3 convolutions of the given channels, each with max pooling, then a dense layer."""

    kind: Literal["conv"] = "conv"
    channels: tuple[PositiveInt, ...] = (32, 64)
    hidden: PositiveInt = 128

    @property
    def stages(self) -> int:
        """How many stages give features."""
        return len(self.channels) + 1


class ResNetwork(Frozen):
    """A ResNet of basic blocks: ``[3, 4, 6, 3]`` is ResNet-34, ``[2, 2, 2, 2]`` ResNet-18.

    `stem_stride`: 1 for images of 32×32; 2 costs a quarter.
    """

    kind: Literal["resnet"] = "resnet"
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 4, 6, 3)
    stem_stride: Literal[1, 2] = 1

    @property
    def stages(self) -> int:
        """How many stages give features."""
        return 1 + len(self.blocks)


class DenseNetwork(Frozen):
    """A DenseNet-BC: ``[16, 16, 16]`` blocks of growth 12 are its 100 layers."""

    kind: Literal["densenet"] = "densenet"
    blocks: tuple[PositiveInt, ...] = (16, 16, 16)
    growth: PositiveInt = 12
    stem_stride: Literal[1, 2] = 1

    @property
    def stages(self) -> int:
        """How many stages give features."""
        return len(self.blocks)


Network = Annotated[ConvNetwork | ResNetwork | DenseNetwork, Field(discriminator="kind")]


def network_for(network: Network, made_for: Shape, shape: Shape) -> Network:
    """A plain network has a stage for every further halving; the others a strided stem."""
    more = more_halvings(made_for, shape)
    if isinstance(network, ConvNetwork):
        return network.model_copy(update={"channels": stages_for(network.channels, more, shape)})
    return network.model_copy(update={"stem_stride": 2}) if more else network


def stages_for(channels: tuple[int, ...], more: int, shape: Shape) -> tuple[int, ...]:
    """`more` stages as wide as the last, no more in all than the sides can be halved."""
    return (*channels, *[channels[-1]] * more)[: most_halvings(shape)]


class LabelledConfig(NetworkConfig):
    """What the classifiers of ID classes share."""

    network: Network

    def for_shape(self, made_for: Shape, shape: Shape) -> LabelledConfig:
        """The same on the network that `network_for` gives."""
        return self.model_copy(update={"network": network_for(self.network, made_for, shape)})


class ClassifierConfig(LabelledConfig):
    """A classifier of the ID classes; it is given labels.

    `exposure`: what it learns of outliers.  ``class``: they are one class more; ``uniform``: the
    prediction on them should be uniform, with the weight `exposure_weight`.
    """

    name: ClassVar[str] = "classifier"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.classifiers.image_classifier:ImageClassifier"
    needs_labels: ClassVar[bool] = True

    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    exposure: Literal["none", "class", "uniform"] = "none"
    exposure_weight: Annotated[float, Field(gt=0)] = 1.0

    @property
    def needs_outliers(self) -> bool:
        """Whether outliers take part in the loss."""
        return self.exposure != "none"


class VIBConfig(LabelledConfig):
    """A classifier through a Gaussian bottleneck of `latent` units; it is given labels.

    `rate_weight` is β of the loss CE + β · KL(q(z|x) ‖ N(0, I)).
    """

    name: ClassVar[str] = "vib-classifier"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.classifiers.vib:VIBClassifier"
    needs_labels: ClassVar[bool] = True

    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    latent: PositiveInt = 32
    rate_weight: Annotated[float, Field(gt=0)] = 1e-3


class MixtureVIBConfig(LabelledConfig):
    """A classifier through a bottleneck of `latent` units, its marginal `components` Gaussians.

    `rate_weight` is β of the loss CE + β · E_q[log q(z|x) − log r(z)].
    """

    name: ClassVar[str] = "mixture-vib-classifier"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = "oodbench.models.classifiers.mixture_vib:MixtureVIBClassifier"
    needs_labels: ClassVar[bool] = True

    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    latent: Annotated[int, Field(ge=1, le=64)] = 3
    components: PositiveInt = 200
    rate_weight: Annotated[float, Field(gt=0)] = 1e-3

    def settings_revision(self, training: Mapping[str, object]) -> int:
        """See `oodbench.declare.recipes.Recipe.settings_revision`."""
        return decayed_beside_kernels(training)


class MutationClassifierConfig(NetworkConfig):
    """A convolutional classifier of training images against mutated ones."""

    name: ClassVar[str] = "mutation-classifier"
    revision: ClassVar[int] = 1
    network_class: ClassVar[str] = (
        "oodbench.models.classifiers.mutation_classifier:MutationClassifier"
    )

    channels: tuple[PositiveInt, ...] = (32, 64, 128)

    def for_shape(self, made_for: Shape, shape: Shape) -> MutationClassifierConfig:
        """A stage for every further halving, as wide as the last."""
        channels = stages_for(self.channels, more_halvings(made_for, shape), shape)
        return self.model_copy(update={"channels": channels})

    rate: Annotated[float, Field(gt=0, le=1)] = 0.3
