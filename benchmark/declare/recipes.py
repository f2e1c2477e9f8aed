"""Recipes: a model's architecture and training budget, per scale and variant, in YAML.

A recipe file names the image shape it is made for, the registered model, and for each scale
(`paper`, `small`, `smoke`) the model's configuration, the training and the measuring settings,
with the variants (`vanilla`, `hvk`, `informative`, …) as overlays.  What a resolved recipe holds,
and nothing else of the file, is in the cache key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, cast

from oodbench.canonical_json import JSON
from oodbench.declare.declarations import Declarations, Source, sources
from oodbench.declare.derived_recipes import (
    adapted_measure,
    adapted_model,
    adapted_training,
    derived_name,
    derived_note,
    parse_derived,
    pixel_share,
)
from oodbench.declare.overrides import changed
from oodbench.declare.recipe_values import check_known, overlay, shown, validate
from oodbench.declare.registry import Registry
from oodbench.declare.yaml_files import read_yaml
from oodbench.errors import ConfigError, PluginError, UnknownNameError

if TYPE_CHECKING:
    import torch

    from oodbench.declare.settings import Measuring, Training

SCALES = ("paper", "small", "smoke")
MAX_WEIGHTS = 4_000_000_000
MAX_SIDE = 65_536
C = TypeVar("C", bound=type)
#: Above the widths of any published recipe; what is larger is counted before it is built.
LARGE = 4_096


class ModelConfig(Protocol):
    """What a registered model's configuration class offers; a frozen pydantic model."""

    name: ClassVar[str]
    revision: ClassVar[int]

    def build(self, shape: tuple[int, int, int]) -> torch.nn.Module:
        """The untrained network for images of `shape` (C, H, W)."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, JSON]:
        """The whole configuration as JSON, defaults included."""
        ...


def _adopt(name: str, value: object) -> type[ModelConfig]:
    missing = [part for part in ("build", "model_validate") if not hasattr(value, part)]
    if not isinstance(value, type) or missing:
        raise PluginError(
            f"model {name!r} is {value!r}, not a configuration class: a pydantic model with a"
            " method build(self, shape)"
        )
    if getattr(value, "name", None) != name or not isinstance(getattr(value, "revision", 0), int):
        raise PluginError(f"model {name!r}: its class needs name = {name!r} and revision = 1")
    return cast("type[ModelConfig]", value)


MODELS: Registry[type[ModelConfig]] = Registry("model", "oodbench.models", _adopt)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as declared; `resolve` makes it concrete."""

    name: str
    title: str
    source: str
    shape: tuple[int, int, int]
    in_dist: tuple[str, ...]
    model: str
    scales: Mapping[str, Mapping[str, JSON]]
    variants: tuple[str, ...]
    origin: str
    note: str
    #: Of a derived recipe: the shape that its settings are made for, `shape` being that of the
    #: images (`oodbench.declare.derived_recipes`).
    made_for: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: everything that determines a fit, and how its model is measured."""

    name: str
    scale: str
    variant: str
    config: ModelConfig
    training: Training
    measure: Measuring
    #: What stands under every table with a run of it.
    note: str = ""
    #: ``training.epochs=1``: what was changed by hand.
    overrides: tuple[str, ...] = ()
    derived: bool = False

    @property
    def label(self) -> str:
        """``F3-small``."""
        return f"{self.name}-{self.scale}"

    def build(self, shape: tuple[int, int, int]) -> torch.nn.Module:
        """The untrained network; ConfigError where the recipe does not suit images of `shape`.

        Where a number of the recipe is large, weights are counted before they are allocated.
        """
        try:
            largest = _largest(self.config.model_dump(mode="json"))
            if largest > MAX_WEIGHTS:
                raise ValueError(f"{shown(largest)} is too large a number for a network")
            if largest > LARGE:
                self._check_weights(shape)
            return self.config.build(shape)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"recipe {self.label}: {error}") from error

    def _check_weights(self, shape: tuple[int, int, int]) -> None:
        """ValueError on a network of more than MAX_WEIGHTS, built on torch's device "meta"."""
        import torch

        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                weights = sum(p.numel() for p in self.config.build(shape).parameters())
        except RuntimeError as error:
            raise ValueError(f"it cannot be built ({str(error).splitlines()[0]})") from error
        if weights > MAX_WEIGHTS:
            raise ValueError(f"it has {weights:,} weights; at most {MAX_WEIGHTS:,} are built")

    @property
    def before(self) -> Recipe | None:
        """The same up to the snapshot before the last; None where the training keeps none."""
        training = self.training.before
        return None if training is None else replace(self, training=training)

    @property
    def settings_revision(self) -> int:
        """How often what these very settings compute has changed since they were first used.

        A fault in an option changes the fits that use it and no others: they alone get another
        key.  A model's configuration says it by a method ``settings_revision(training)``, given
        the training settings as JSON; one without the method has no such option.
        """
        of_model = getattr(self.config, "settings_revision", None)
        training = self.training.model_dump(mode="json")
        own = int(of_model(training)) if of_model else 0
        return own + self.training.settings_revision

    def fit_parts(self) -> dict[str, JSON]:
        """What the key of a fit holds of the recipe."""
        parts: dict[str, JSON] = {
            "model": self.config.name,
            "revision": self.config.revision,
            "config": self.config.model_dump(mode="json"),
            "training": self.training.model_dump(mode="json", exclude={"snapshots"}),
        }
        return parts | _set(settings_revision=self.settings_revision)


def register_model(config: C) -> C:
    """Class decorator: register a model by its configuration class, under the class's `name`.

    The class is a pydantic model, frozen and with extra="forbid" (`oodbench.models.config.Frozen`),
    with class variables `name` and `revision` and a method ``build(self, shape)``.
    """
    name = str(getattr(config, "name", "") or getattr(config, "__name__", config))
    MODELS.add(name, _adopt(name, config))
    return config


def recipe_files() -> dict[str, RecipeFile]:
    """The recipes of oodbench, of plug-ins and of the project, by name."""
    return _all_recipes(sources())


def recipe_declarations() -> Declarations[RecipeFile]:
    """Every ``recipes/NAME.yaml``."""
    return _declarations(sources())


@cache
def _all_recipes(_: tuple[Source, ...]) -> dict[str, RecipeFile]:
    return recipe_declarations().all()


@cache
def _declarations(_: tuple[Source, ...]) -> Declarations[RecipeFile]:
    return Declarations[RecipeFile]("recipe").add_files("recipes", _read_named)


def _read_named(path: Path) -> RecipeFile:
    recipe = read_recipe(path)
    if recipe.name != path.stem:
        raise ConfigError(f"{path} holds the recipe {recipe.name!r}; name the file after it")
    return recipe


def find_recipe(name: str) -> RecipeFile:
    """A recipe by name, or a path to a YAML file; UnknownNameError lists the nearest."""
    if name.endswith((".yaml", ".yml")):
        return read_recipe(Path(name))
    declared, derived = recipe_declarations(), parse_derived(name)
    if derived is not None and name not in declared and derived[0] in declared:
        return derive(declared.get(derived[0]), derived[1])
    return declared.get(name)


def derive(base: RecipeFile, shape: tuple[int, int, int]) -> RecipeFile:
    """The recipe that is derived from `base` for images of `shape` (C, H, W)."""
    note = derived_note(base.name, base.shape, shape)
    return replace(
        base, name=derived_name(base.name, shape), shape=shape, in_dist=(), made_for=base.shape,
        note=f"{note} {base.note}".strip(),
    )  # fmt: skip


def read_recipe(path: Path) -> RecipeFile:
    """Parse and check a recipe file; ConfigError names the file and the key."""
    raw = read_yaml(path)
    known = {"name", "title", "source", "note", "shape", "in_dist", "model", "scales"}
    where = path.name
    check_known(raw, known, where)
    for key in ("name", "shape", "model", "scales"):
        if key not in raw:
            raise ConfigError(f"{where}: the key {key!r} is missing")
    scales = raw["scales"]
    if not isinstance(scales, Mapping) or not scales:
        raise ConfigError(f"{where}: 'scales' must map {', '.join(SCALES)} to settings")
    check_known(scales, set(SCALES), f"{where}: scales")
    variants: dict[str, None] = {}
    for scale, body in scales.items():
        if not isinstance(body, Mapping):
            raise ConfigError(f"{where}: scales.{scale} must be a mapping")
        check_known(body, {"model", "training", "measure", "variants"}, f"{where}: scales.{scale}")
        overlays = body.get("variants", {"": {}})
        if not isinstance(overlays, Mapping) or not overlays:
            raise ConfigError(f"{where}: scales.{scale}.variants must be a mapping")
        variants |= dict.fromkeys(overlays)
    shape = raw["shape"]
    if not (isinstance(shape, list) and len(shape) == 3 and all(map(_is_size, shape))):
        raise ConfigError(
            f"{where}: 'shape' must be three whole numbers [C, H, W] from 1 to {MAX_SIDE},"
            f" not {shown(shape)}"
        )
    for key in ("name", "model"):
        if not isinstance(raw[key], str) or not raw[key]:
            raise ConfigError(f"{where}: {key!r} must be a name, not {shown(raw[key])}")
    if not isinstance(raw.get("note", ""), str):
        raise ConfigError(f"{where}: 'note' must be a text, not {shown(raw['note'])}")
    in_dist = raw.get("in_dist", [])
    if not isinstance(in_dist, list) or not all(isinstance(name, str) for name in in_dist):
        raise ConfigError(f"{where}: 'in_dist' must be a list of data set names")
    return RecipeFile(
        name=str(raw["name"]),
        title=str(raw.get("title", "")),
        source=str(raw.get("source", "")),
        shape=cast("tuple[int, int, int]", tuple(shape)),
        in_dist=tuple(map(str, in_dist)),
        model=str(raw["model"]),
        scales=cast("Mapping[str, Mapping[str, JSON]]", scales),
        variants=tuple(variants),
        origin=str(path),
        note=" ".join(str(raw.get("note", "")).split()),
    )


def resolve(
    recipe: RecipeFile, scale: str, variant: str = "", overrides: Mapping[str, JSON] | None = None
) -> Recipe:
    """The settings of one scale and variant, validated; `overrides` overlays sections last.

    ConfigError names the recipe, the key and the nearest valid key or value.
    """
    from oodbench.declare.settings import Measuring, Training

    if scale not in recipe.scales:
        raise UnknownNameError(f"scale of recipe {recipe.name}", scale, recipe.scales)
    body = recipe.scales[scale]
    overlays = cast("Mapping[str, JSON]", body.get("variants", {"": {}}))
    if variant not in overlays:
        raise UnknownNameError(f"variant of recipe {recipe.name}", variant, overlays)
    sections: dict[str, JSON] = {key: body.get(key, {}) for key in ("model", "training", "measure")}
    tops: list[JSON] = [overlays[variant], overrides or {}]
    if recipe.made_for is not None:
        sections, tops = _adapted(recipe, scale, variant), [overrides or {}]
    where = f"recipe {recipe.name}, scale {scale}"
    for top in tops:
        if not isinstance(top, Mapping):
            raise ConfigError(f"{recipe.name}: variant {variant!r} must be a mapping")
        check_known(top, {*sections, "note"}, f"{recipe.name}: variant {variant}")
        if not isinstance(top.get("note", ""), str):
            raise ConfigError(f"{recipe.name}: 'note' must be a text, not {shown(top['note'])}")
        try:
            if _sets_epochs(top):
                sections["training"] = {
                    k: v for k, v in cast("Mapping[str, JSON]", sections["training"]).items()
                    if k != "snapshots"
                }  # fmt: skip
            sections = {key: overlay(sections[key], top.get(key, {})) for key in sections}
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    model = MODELS.get(recipe.model)
    found = Recipe(
        name=recipe.name,
        scale=scale,
        variant=variant,
        config=cast("ModelConfig", validate(model, sections["model"], f"{where}: model")),
        training=cast("Training", validate(Training, sections["training"], f"{where}: training")),
        measure=cast("Measuring", validate(Measuring, sections["measure"], f"{where}: measure")),
        note=variant_note(recipe, scale, variant),
        derived=recipe.made_for is not None,
    )
    if not overrides:
        return found
    own = resolve(recipe, scale, variant)
    named = epochs_named(overrides)
    return replace(found, overrides=changed(_dumped(own), _dumped(found), named))


def _sets_epochs(top: Mapping[str, JSON]) -> bool:
    """Whether an overlay names one number of epochs, in the place of any snapshots below it."""
    training = top.get("training")
    return isinstance(training, Mapping) and "epochs" in training and "snapshots" not in training


def epochs_named(overrides: Mapping[str, JSON]) -> Mapping[str, JSON]:
    """Overrides with the last of their snapshots as the epochs that it is, and without snapshots.

    ConfigError where they name another number of epochs beside them.
    """
    training = overrides.get("training")
    snapshots = training.get("snapshots") if isinstance(training, Mapping) else None
    if not isinstance(training, Mapping) or not isinstance(snapshots, list | tuple):
        return overrides
    epochs, rest = snapshots[-1], {k: v for k, v in training.items() if k != "snapshots"}
    if rest.get("epochs", epochs) != epochs:
        raise ConfigError(
            f"training.epochs={rest['epochs']} and training.snapshots={snapshots} are both set;"
            " snapshots take the place of epochs: leave one out"
        )
    return {**overrides, "training": {**rest, "epochs": epochs}}


def _adapted(recipe: RecipeFile, scale: str, variant: str) -> dict[str, JSON]:
    """The sections of a derived recipe."""
    assert recipe.made_for is not None
    made_for, shape = recipe.made_for, recipe.shape
    base = resolve(replace(recipe, shape=made_for, made_for=None), scale, variant)
    adapt = getattr(base.config, "for_shape", None)  # a plug-in's model may take any shape
    config = base.config if adapt is None else cast("ModelConfig", adapt(made_for, shape))
    model = config.model_dump(mode="json")
    training = base.training.model_dump(mode="json")
    if training.get("epoch_images") is None:
        model = adapted_model(model, pixel_share(made_for, shape))
    return {
        "model": model,
        "training": adapted_training(training, made_for, shape, scale),
        "measure": adapted_measure(base.measure.model_dump(mode="json"), made_for, shape, scale),
    }


def _dumped(recipe: Recipe) -> dict[str, JSON]:
    """The whole sections of a resolved recipe."""
    return {
        "model": recipe.config.model_dump(mode="json"),
        "training": recipe.training.model_dump(mode="json"),
        "measure": recipe.measure.model_dump(mode="json"),
    }


def variant_note(recipe: RecipeFile, scale: str, variant: str) -> str:
    """The note of a recipe, then that of the variant, each one line."""
    overlays = cast("Mapping[str, JSON]", recipe.scales[scale].get("variants", {}))
    own = cast("Mapping[str, JSON]", overlays.get(variant) or {}).get("note", "")
    return " ".join([recipe.note, *str(own).split()]).strip()


def _set(**numbers: int) -> dict[str, JSON]:
    """Those that are not 0: what was keyed before they were there keeps its key."""
    return {name: number for name, number in numbers.items() if number}


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SIDE


def _largest(value: JSON) -> float:
    """The largest number anywhere in a configuration."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int | float) else 0
