"""Validated settings of training and measuring; pydantic, frozen, an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

#: A count; the bound keeps a slip of the keyboard from filling the memory.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Images = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Augmentation(BaseModel):
    """Random changes of a training image, anew at every access.

    `flip`: mirrored left to right with probability ½; `shift`: moved by up to so many pixels each
    way, zeros moving in, which is a random crop of the padded image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: bool = False
    shift: Annotated[int, Field(ge=0, le=1_000)] = 0


class Outliers(BaseModel):
    """Images beside the training set that a model of the category prior is shown as outliers.

    ``mutated``: the training batch, every value replaced by a uniform one with probability `rate`
    (1 is uniform noise).  ``set``: the `split` of the data set `name`, which must share no image
    with the OOD set of a pair.  `ratio`: outliers per training image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["mutated", "set"]
    rate: Annotated[float, Field(gt=0, le=1)] = 0.3
    name: str = ""
    split: Literal["train", "test"] = "train"
    ratio: Annotated[int, Field(ge=1, le=16)] = 1

    @model_validator(mode="after")
    def _set_has_a_name(self) -> Outliers:
        if (self.kind == "set") != bool(self.name):
            raise ValueError("outliers of kind set need the name of a data set; others have none")
        if self.kind == "mutated" and self.ratio != 1:
            raise ValueError("mutated outliers are as many as the training images; leave out ratio")
        return self


class EarlyStop(BaseModel):
    """Stop after more than `patience` epochs without a better loss on `images` held-out images."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    patience: Count
    images: Count = 5_000


class Training(BaseModel):
    """How a model is trained; everything here is part of the cache key.

    An epoch is `epoch_images` images (default: as many as the training set holds), drawn without
    replacement from one shuffled pass after another, in batches that are always full.  `cosine`
    lets the learning rate fall to `final_lr` × lr over the run; it rises linearly over the first
    `lr_warmup_steps`.  `ema`: decay of the weight average that is kept instead of the last weights.
    `mutation`: probability with which a value of a training image is replaced by a uniform one,
    anew at every access (background models of likelihood ratios).  `kernel_decay`: λ of a penalty
    λ Σ w² over the kernels of convolutions and linear layers, which stands in the loss: `clip`
    bounds the norm of the gradient of both.  `weight_decay` is on every parameter, after clipping.
    `momentum` is that of ``sgd``, after Nesterov.  `outliers` are given to models that ask for
    them.  `early_stop` may end it before its epochs are over (`oodbench.train.early_stopping`).

    `snapshots` are numbers of epochs, in ascending order, that take the place of `epochs`: one
    training goes on to the last of them, and what it has learned at each is a fit of its own, the
    very one that `epochs` of that number gives.  That needs a training whose steps do not depend on
    where it ends: ``constant`` (with an `ema`, where the last steps are noisy) and no `early_stop`.
    They are no part of the key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Count
    batch_size: Count = 128
    epoch_images: Images | None = None
    max_images: Images | None = None
    optimiser: Literal["adam", "adamax", "rmsprop", "sgd"] = "adam"
    lr: PositiveFloat = 3e-4
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    kernel_decay: PositiveFloat | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.0
    lr_warmup_steps: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    clip: PositiveFloat | None = None
    mutation: Annotated[float, Field(gt=0, le=1)] | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    early_stop: EarlyStop | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    augment: Augmentation | None = None
    outliers: Outliers | None = None
    snapshots: Annotated[tuple[Count, ...], Field(min_length=1, max_length=1_000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _ends_at_the_last(cls, values: object) -> object:
        snapshots = values.get("snapshots") if isinstance(values, Mapping) else None
        last = snapshots[-1] if isinstance(snapshots, list | tuple) and snapshots else None
        if not isinstance(last, int) or last < 1:
            return values
        return {**cast("Mapping[str, object]", values), "epochs": last}

    @model_validator(mode="after")
    def _snapshots_are_of_one_training(self) -> Training:
        found = self.snapshots
        if found is None:
            return self
        if list(found) != sorted(set(found)):
            raise ValueError("snapshots are numbers of epochs in ascending order, each once")
        if self.schedule != "constant":
            raise ValueError(
                "snapshots need schedule: constant, since a cosine falls to the end of the run;"
                " with an ema, such as 0.9999, what is kept is an average of the weights"
            )
        if self.early_stop is not None:
            raise ValueError("snapshots and early_stop exclude each other; leave one out")
        return self

    @property
    def before(self) -> Training | None:
        """The same training up to the snapshot before the last; None where there is none."""
        kept = (self.snapshots or ())[:-1]
        return self.model_copy(update={"epochs": kept[-1], "snapshots": kept}) if kept else None

    @property
    def settings_revision(self) -> int:
        """See `oodbench.declare.recipes.Recipe.settings_revision`: 1 where a penalty on kernels,
        once added after clipping, weighed more than its λ."""
        return 1 if self.kernel_decay is not None and self.clip is not None else 0

    @model_serializer(mode="wrap")
    def _as_keyed(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        unset = (
            "kernel_decay", "mutation", "momentum", "augment", "outliers", "early_stop",
            "snapshots",
        )  # fmt: skip
        return _without_unset(handler(self), *unset)


class Refit(BaseModel):
    """Refitting the posterior to one image (likelihood regret): Adam on the negative ELBO.

    ``encoder`` moves the encoder's weights (LRe); ``posterior`` only mean and log-variance of
    q(z|x), from the encoder's output on (LRe(z)).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    what: Literal["encoder", "posterior"] = "encoder"
    steps: Count = 100
    lr: PositiveFloat = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 5e-5


class Validation(BaseModel):
    """An OOD set on which a detector of the category prior chooses; never that of its pair.

    A `name` of steps alone, such as ``@grey@rgb``, is the ID set through them.  A split that holds
    more than 10,000 images is measured on a seeded subset of that size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    split: Literal["train", "test"] = "test"


class Measuring(BaseModel):
    """How images are measured; part of the key of a measurement.

    `lower`: how z≤k is drawn from p; `encoder_lower`: how z≤k is passed up the encoder on the way
    to z>k (HVK evaluates with ``mode`` for both); `importance_samples`: S of the bound L;
    `max_images`: a split that holds more, the training split for scores that compare with it
    included, is measured on a seeded subset of that size; `members`:
    how many models an ensemble has whose size the recipe decides; `validation`: the OOD set for
    detectors that choose on one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lower: Literal["mode", "sample"] = "mode"
    encoder_lower: Literal["mode", "sample"] = "mode"
    importance_samples: Count = 1
    max_images: Images | None = None
    refit: Refit | None = None
    members: Annotated[int, Field(ge=2, le=100)] | None = None
    validation: Validation | None = None

    @model_serializer(mode="wrap")
    def _as_keyed(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return _without_unset(handler(self), "max_images", "refit", "members", "validation")


def _without_unset(settings: dict[str, object], *names: str) -> dict[str, object]:
    """Settings without those of `names` that are None: younger ones, so that the keys of recipes
    that do not use them stay what they were."""
    return {k: v for k, v in settings.items() if v is not None or k not in names}
