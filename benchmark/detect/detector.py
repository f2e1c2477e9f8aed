"""The contract of a detector, the same for the built-in baselines and for third parties.

    @register("my-detector", category="unsupervised", cite="doi or arXiv id")
    class MyDetector(Detector):
        revision = 1
        def fit(self, train, context): ...
        def measure(self, images): ...          # or measure(self, images, noise)
        def score(self, statistics): ...        # higher = more OOD
        def state_dict(self): ...
        def load_state_dict(self, state): ...

`measure` gets uint8 images (B, C, H, W) and returns named per-image tensors (B,) or (B, K); with a
second parameter it gets keyed noise (`oodbench.seeding.KeyedNoise`), the only randomness it may
use.  `score` is a pure function of the statistics of all images, returning (N,) floats.

A function on the statistics of another detector is less: see `oodbench.detect.score_functions`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeVar

from oodbench.canonical_json import JSON
from oodbench.declare.registry import Registry
from oodbench.errors import PluginError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from oodbench.datasets.imageset import ImageSet
    from oodbench.declare.recipes import Recipe
    from oodbench.seeding import KeyedNoise

CATEGORIES = ("unsupervised", "ensemble", "prior", "labels")
ONE_SIDED = (
    "more bright", "less bright", "more varied", "less varied", "more complex", "less complex",
)  # fmt: skip


class Statistics(dict[str, "torch.Tensor"]):
    """What `measure` returns: per-image tensors, and optional `totals` summed over all images.

    `totals` are tensors of any shape, the same for every batch (sums over the batch, float64);
    they serve diagnostics such as the variance of a posterior mean and reach no score.
    """

    def __init__(
        self, values: Mapping[str, torch.Tensor], totals: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        super().__init__(values)
        self.totals = dict(totals or {})


@dataclass(frozen=True)
class FitContext:
    """What `fit` may use beside the training images."""

    device: str
    seed: int
    report: Callable[[str], None]
    checkpoint: Path
    options: Mapping[str, JSON] = field(default_factory=dict)


class Detector:
    """Base class; see the module's docstring for what a subclass provides.

    `revision` is part of every cache key: bump it when results change.  Where only scores changed,
    `measure_revision` keeps the measurements: the revision since which they are what they are.
    `scores` names the score functions of a detector that has several; a detector with one score
    leaves it empty.  `scores_with_models`: `calibrate` and `scores` use the models of the recipe
    too, which are then attached before.
    An ensemble says how many `members` it wants: independent fits of its recipe, which the store
    shares with every other detector on that recipe; the recipe's `measure.members` goes before.
    `companions` names further variants of the recipe, each fitted once, such as the background
    model of a likelihood ratio.
    `groups` maps a score that judges b images together to b: `scores` repeats the value of a group
    on its members, the groups being those of `oodbench.rank.metrics.group_members`.  Of the scores
    that
    `oracles` lists, the one with the best AUROC is printed as well, under a name of its own; that
    choice has seen the OOD images, and every table says so.

    `fit` gets a seeded subset where `fit_images` is set and the training set is larger; tables say
    so.  A detector whose learned state is no tensors sets `refits`: its `fit`, the same for the
    same images and seed, is called again where a stored fit is taken up, before `load_state_dict`.
    `reads` is the detector whose fits and measurements are used instead of one's own.
    `measure` runs without gradients; with `needs_gradient` autograd is on, as for ∇ₓ log p.

    What `oodbench check` holds a score's sign to: noise is OOD for whoever learns what waves look
    like.  A statistic of one image that learns nothing says with `one_sided`, one of `ONE_SIDED`,
    what it calls OOD instead.  `unoriented` maps a score, or a pattern such as "LLR*", to the
    reason why noise does not settle its sign; the check prints it.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    category: ClassVar[str] = "unsupervised"
    cite: ClassVar[str] = ""
    cost: ClassVar[str] = ""
    revision: ClassVar[int] = 1
    measure_revision: ClassVar[int] = 0
    score_patterns: ClassVar[Sequence[str]] = ()
    measure_name: ClassVar[str] = ""
    scores_with_models: ClassVar[bool] = False
    recipe_variant: ClassVar[str] = ""
    members: int = 1
    companions: ClassVar[Sequence[str]] = ()
    groups: ClassVar[Mapping[str, int]] = {}
    one_sided: ClassVar[str] = ""
    unoriented: ClassVar[Mapping[str, str]] = {}
    diagnose_training: ClassVar[bool] = True
    fit_images: ClassVar[int | None] = None
    refits: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False
    reads: ClassVar[type[Detector] | None] = None

    recipe: Recipe | None = None
    companion_recipes: Sequence[Recipe] = ()

    def fit(self, train: ImageSet, context: FitContext) -> None:
        """Learn from the ID training images; the default has nothing to learn.

        With a `recipe_variant` it is called after `attach`, with the trained models at hand.
        `train.labels` is None unless the category is labels or prior
        (`oodbench.detect.entitlement`).
        """

    def attach(self, models: Sequence[torch.nn.Module]) -> None:
        """Take the trained models of the recipe, members first, then companions."""

    def environment(self) -> Mapping[str, JSON]:
        """What outside the code can change a measurement, such as a compressor's version.

        It becomes part of the key of a measurement, and of the key of the detector's own fit.
        """
        return {}

    def measure(self, images: torch.Tensor, noise: KeyedNoise) -> Mapping[str, torch.Tensor]:
        """Statistics of uint8 images (B, C, H, W), each (B,) or (B, K)."""
        raise NotImplementedError

    def calibrate(self, statistics: Mapping[str, np.ndarray]) -> None:
        """Take the statistics of a seeded subset of the ID training images, before any scoring.

        Only for scores that compare an image with what is typical of the training images.  A
        detector of the category labels or prior finds their labels under ``label`` beside them, as
        `diagnose` does for ID images.
        """

    def choose(self, inside: Mapping[str, np.ndarray], outside: Mapping[str, np.ndarray]) -> str:
        """Choose a parameter of the scores on a validation OOD set; returns the choice in words.

        `inside` are the statistics of a seeded subset of the ID training images, `outside` those of
        the set that the recipe declares in `measure.validation`.  Category prior only.
        """
        raise NotImplementedError

    def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
        """(N,) scores from the statistics of N images, higher = more OOD."""
        raise NotImplementedError

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All named scores; the default is the one of `score`, under the empty name."""
        return {"": self.score(statistics)}

    def score_names(self) -> list[str]:
        """Names of what `scores` returns, in the order of a table."""
        return [""]

    def oracles(self) -> Mapping[str, Sequence[str]]:
        """Names of oracle choices, each with the scores that it chooses from."""
        return {}

    def diagnose(
        self,
        statistics: Mapping[str, np.ndarray],
        totals: Mapping[str, np.ndarray],
        shape: tuple[int, int, int],
    ) -> dict[str, JSON]:
        """What to print beside a model: bits/dim, KL per layer, active units."""
        return {}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Tensors that `fit` learned; loaded again without running code from the file."""
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore what `state_dict` gave."""

    @classmethod
    def calibrates(cls) -> bool:
        """Whether the class has a `calibrate` of its own."""
        return cls.calibrate is not Detector.calibrate

    @classmethod
    def chooses(cls) -> bool:
        """Whether the class has a `choose` of its own."""
        return cls.choose is not Detector.choose

    @classmethod
    def learns(cls) -> bool:
        """Whether the class has a `fit` of its own."""
        return cls.fit is not Detector.fit


def wants_noise(cls: type[Detector]) -> bool:
    """Whether `measure` asks for keyed noise: a second parameter without a default."""
    parameters = list(inspect.signature(cls.measure).parameters.values())[1:]
    return len(parameters) >= 2 and parameters[1].default is inspect.Parameter.empty


def is_deterministic(cls: type[Detector]) -> bool:
    """Whether every seed gives the same scores: nothing learned, no model, no noise."""
    return not (cls.learns() or cls.recipe_variant or wants_noise(cls))


D = TypeVar("D", bound=type[Detector])


def _adopt(name: str, value: object) -> type[Detector]:
    if not (isinstance(value, type) and issubclass(value, Detector)):
        raise PluginError(f"detector {name!r} is {value!r}, not a subclass of oodbench.Detector")
    registered = str(vars(value).get("name", ""))
    if registered not in ("", name):
        raise PluginError(f"detector {name!r} is registered as {registered!r}; use one name")
    value.name = name
    if _measures_otherwise(value):
        value.measure_name = name
    if "measure_name" in vars(value) and "measure_revision" not in vars(value):
        value.measure_revision = 0
    return value


#: What a subclass may define without measuring anything else than its base.
_SCORING = {
    "score", "scores", "score_names", "calibrate", "calibrates", "oracles", "diagnose", "layers",
}  # fmt: skip


def _measures_otherwise(cls: type[Detector]) -> bool:
    """Whether a class has no `measure_name`, or only one from before it changed a method.

    Two detectors share measurements where this name, revision, fits and settings are equal; a
    third party's subclass must not do so by accident.
    """
    for base in cls.__mro__:
        held = vars(base)
        if held.get("measure_name"):
            return False
        if not base.__module__.startswith("oodbench."):
            methods = {n for n, v in held.items() if callable(v) or isinstance(v, property)}
            if methods - _SCORING:
                return True
    return True


DETECTORS: Registry[type[Detector]] = Registry(
    "detector", "oodbench.detectors", _adopt, families="oodbench.detector_families"
)


def register(
    name: str, *, category: str = "unsupervised", cite: str = "", title: str = ""
) -> Callable[[D], D]:
    """Class decorator: give a detector its name, category and citation, and register it."""
    if category not in CATEGORIES:
        raise PluginError(
            f"detector {name!r}: unknown category {category!r}; one of {', '.join(CATEGORIES)}"
        )
    if not name or any(c in name for c in ":@/ "):
        raise PluginError(
            f"detector name {name!r} must be non-empty and without ':', '@', '/', ' '"
        )

    def decorate(cls: D) -> D:
        DETECTORS.add(name, _adopt(name, cls))
        cls.category, cls.cite = category, cite
        cls.title = title or str(vars(cls).get("title", "")) or name
        return cls

    return decorate
