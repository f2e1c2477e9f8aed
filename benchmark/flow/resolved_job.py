"""A job with its names resolved: images loaded, the detector made, its recipes and fits chosen.

Nothing here trains, measures or writes; torch is not imported.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from oodbench.datasets.loading import check_compatible, load
from oodbench.detect.detector import Detector, wants_noise
from oodbench.detect.entitlement import check_disjoint, labels_for, takes_labels
from oodbench.flow.bench import Bench
from oodbench.flow.plan import Job, make_detector

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet
    from oodbench.datasets.pairs import Pair
    from oodbench.datasets.spec import DatasetName
    from oodbench.declare.recipes import Recipe
    from oodbench.store.store import Key
    from oodbench.train.batches import Supervision

#: Training or validation images that scores compare with at most, whatever the test sets hold, and
#: training images of diagnostics, no more than there are ID test images beside them.
COMPARED_IMAGES = 10_000
DIAGNOSED_IMAGES = 2_000


@dataclass(frozen=True)
class Fit:
    """One thing to learn: a recipe's model, or the detector itself where there is no recipe."""

    recipe: Recipe | None
    seed: int
    label: str

    @property
    def before(self) -> Fit | None:
        """The fit that this one goes on from: the snapshot before the last of its training."""
        recipe = self.recipe.before if self.recipe is not None else None
        if recipe is None:
            return None
        head = self.label.partition(" up to ")[0]
        return Fit(recipe, self.seed, f"{head} up to epoch {recipe.training.epochs}")


class ResolvedJob:
    """A job whose names are resolved: its images, its detector, its recipes, what it has to learn.

    Raises OodbenchError where the images or the recipe cannot be had.
    """

    def __init__(self, bench: Bench, job: Job) -> None:
        from oodbench.datasets.spec import parse_name

        self.bench, self.asked, self.store = bench, job, bench.store
        #: Keys of `fits` that are known already, which `oodbench.flow.keys` makes.
        self.keyed_fits: list[tuple[Fit, ImageSet, Key]] = []
        self.seed, self.label, self.pairs = job.seed, job.label, job.pairs
        self.name: DatasetName = parse_name(job.in_dist)
        self.test = self.load(job.in_dist, "test")
        self.detector, self.recipe = make_detector(job, self.test.shape)
        self._give_classes()
        self.noisy = wants_noise(type(self.detector))

    def with_seed(self, job: Job) -> ResolvedJob:
        """The same with another seed, for what is planned; `job` differs in its seed alone."""
        other = copy(self)
        other.asked, other.seed, other.label = job, job.seed, job.label
        other.keyed_fits = []
        other.__dict__.pop("fits", None)
        return other

    def load(self, name: str, split: str) -> ImageSet:
        """A split; OOD images come in the shape of the ID images, drawn ones in their number."""
        own = name == self.asked.in_dist
        if own:
            return self.bench.kept((name, split), lambda: load(
                name, split, self.bench.places, divide=True, progress=self.bench.progress
            ))  # fmt: skip
        return self._beside(name, split, len(self.test))

    def _beside(self, name: str, split: str, count: int) -> ImageSet:
        """A set in the shape of the ID images; `count` images of it where they are drawn."""
        shape, beside = self.test.shape, self.name
        return self.bench.kept((name, split, shape, count, str(beside)), lambda: load(
            name, split, self.bench.places, like=shape, count=count, beside=beside,
            progress=self.bench.progress,
        ))  # fmt: skip

    def ood(self, pair: Pair) -> ImageSet:
        """The OOD test images of a pair; DataError where they do not fit the ID images."""
        ood = self.load(pair.ood, "test")
        check_compatible(self.test, ood)
        for declared in (self.validation, *map(self.outliers, self.recipes)):
            if declared is not None:
                check_disjoint(declared, ood, self._untouched)
        return ood

    def _untouched(self, images: ImageSet) -> ImageSet:
        """The same split before all steps (but how values are read) and with all classes."""
        from oodbench.datasets.naming import step_name
        from oodbench.datasets.spec import parse_name

        wanted = parse_name(images.name)
        steps = tuple(step for step in wanted.variants if step_name(step) == "range")
        whole, beside = replace(wanted, variants=steps, classes=()), self.name
        return self.bench.kept(("whole", str(whole), images.split, str(beside)), lambda: load(
            whole, images.split, self.bench.places, beside=beside
        ))  # fmt: skip

    def outliers(self, recipe: Recipe) -> ImageSet | None:
        """The set that the recipe declares as outliers, None where it declares none."""
        wanted = recipe.training.outliers
        if wanted is None or wanted.kind != "set":
            return None
        return self._declared(wanted.name, wanted.split)

    @cached_property
    def validation(self) -> ImageSet | None:
        """The OOD set that the detector chooses on, None where it does not."""
        if self.recipe is None or not type(self.detector).chooses():
            return None
        wanted = self.recipe.measure.validation
        assert wanted is not None
        name = self.asked.in_dist + wanted.name if wanted.name.startswith("@") else wanted.name
        return self._declared(name, wanted.split)

    def _declared(self, name: str, split: str) -> ImageSet:
        # Drawn sets as large as the training set: what is learned from knows no test set.
        declared = self._beside(name, split, len(self.train))
        check_compatible(self.test, declared)
        return declared

    def supervision(self, recipe: Recipe) -> Supervision:
        """What a fit of the recipe is given beside the training images."""
        from oodbench.train.batches import Supervision

        outliers = self.outliers(recipe)
        if outliers is not None:
            outliers.verify()
        labels = labels_for(recipe, self.train)
        return Supervision(
            None if labels is None else self.numbered(labels, recipe),
            None if outliers is None else outliers.images,
        )

    def numbered(self, labels: np.ndarray, recipe: Recipe | None) -> np.ndarray:
        """Labels as the recipe's model counts its classes; as they are where it takes none."""
        from oodbench.detect.classes import numbered, present

        if recipe is None or not takes_labels(recipe):
            return labels
        return numbered(labels, present(recipe, self.train))

    def _give_classes(self) -> None:
        """Recipes of classifiers have an output for every class of the training images."""
        from oodbench.detect.classes import with_classes

        if not any(map(takes_labels, self.recipes)):
            return
        assert self.recipe is not None
        self.recipe = self.detector.recipe = with_classes(self.recipe, self.train)
        self.detector.companion_recipes = [
            with_classes(recipe, self.train) for recipe in self.detector.companion_recipes
        ]

    @cached_property
    def train(self) -> ImageSet:
        """The ID training split."""
        return self.load(self.asked.in_dist, "train")

    @cached_property
    def held_out(self) -> ImageSet:
        """ID images that no fit of the recipe has seen, for choices made on ID data alone.

        The training images that the recipe leaves out (`Training.max_images`); where it leaves
        none, the ID test images.
        """
        from oodbench.seeding import training_split

        limit = self.recipe.training.max_images if self.recipe is not None else None
        if limit is None or limit >= len(self.train):
            return self.test
        left = self.train.subset(training_split(len(self.train), limit)[1])
        return replace(left, split="held-out")

    @property
    def compares(self) -> bool:
        """Whether the scores compare an image with what was measured of training images."""
        return type(self.detector).calibrates() or self.validation is not None

    @property
    def train_subset(self) -> int:
        """How many training images are measured, for `calibrate` or for diagnostics alone.

        What scores compare with does not depend on any test set.
        """
        if self.compares:
            return min(self.count(self.train), COMPARED_IMAGES)
        return min(len(self.train), self.count(self.test), DIAGNOSED_IMAGES)

    @property
    def validation_subset(self) -> int:
        """How many images of the validation set are measured, 0 where it is all of them."""
        return 0 if self.validation is None else self.subset(self.validation, COMPARED_IMAGES)

    @property
    def fit_subset(self) -> int:
        """How many training images the detector's own `fit` gets, 0 where it gets all."""
        limit = self.detector.fit_images
        return limit if limit is not None and limit < len(self.train) else 0

    def compared(self) -> list[tuple[ImageSet, int]]:
        """Images beside the test sets that are measured for a run, with the size of the subset."""
        found, cls = [], type(self.detector)
        diagnosed = self.detector.diagnose_training and cls.diagnose is not Detector.diagnose
        if cls.calibrates() or diagnosed or self.validation is not None:
            found.append((self.train, self.train_subset))
        if self.validation is not None:
            found.append((self.validation, self.validation_subset))
        return found

    def count(self, images: ImageSet) -> int:
        """How many images of a split are measured: all, or the recipe's `max_images`."""
        limit = self.recipe.measure.max_images if self.recipe is not None else None
        return len(images) if limit is None else min(limit, len(images))

    def subset(self, images: ImageSet, limit: int | None = None) -> int:
        """The size of the seeded subset that is measured, up to `limit`; 0 for a whole split."""
        count = min(self.count(images), limit or len(images))
        return count if count < len(images) else 0

    @cached_property
    def has_fit(self) -> bool:
        """Whether anything is learned."""
        return self.recipe is not None or type(self.detector).learns()

    @property
    def source(self) -> type[Detector]:
        """The detector whose fits and measurements are used: its own class, or what it reads."""
        return self.detector.reads or type(self.detector)

    @property
    def recipes(self) -> list[Recipe]:
        """The recipe and those of the companions; none for a detector without."""
        return [self.recipe, *self.detector.companion_recipes] if self.recipe else []

    def member_seed(self, member: int) -> int:
        """Training seed of a member: those of one run are disjoint from those of the next seed."""
        return self.seed * self.detector.members + member

    @cached_property
    def fits(self) -> list[Fit]:
        """Everything that is learned: the members, the companions, what `fit` learns on them."""
        count = self.detector.members
        labels = [self.label] * count
        if count > 1:
            labels = [f"{self.label}, member {m + 1} of {count}" for m in range(count)]
        out = [Fit(self.recipe, self.member_seed(m), label) for m, label in enumerate(labels)]
        out += [
            Fit(recipe, self.seed, f"{self.label}, {recipe.variant}")
            for recipe in self.detector.companion_recipes
        ]
        taught = self.recipe is not None and type(self.detector).learns()
        return [*out, Fit(None, self.seed, f"{self.label}, on its model")] if taught else out


def subset_indices(count: int, size: int) -> np.ndarray:
    """Sorted indices of a seeded subset; a smaller one is part of a larger one.

    `oodbench.seeding.SUBSET_REVISION` says which draw this is.
    """
    import numpy as np

    from oodbench.seeding import derive_seed

    order = np.random.default_rng(derive_seed("measured images", count)).permutation(count)
    return np.sort(order[:size])
