"""The detector under check on its mock pair, learned and measured by the code of real runs."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch

from oodbench.canonical_json import JSON
from oodbench.conformance.toy import Shape, write_toy
from oodbench.conformance.verdicts import NotApplicable
from oodbench.conformance.watch import Watch, is_pickle, watching
from oodbench.datasets.imageset import ImageSet
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import Pair
from oodbench.declare.recipes import find_recipe, recipe_files
from oodbench.detect.detector import Detector, FitContext
from oodbench.detect.entitlement import WITH_LABELS
from oodbench.errors import ConfigError
from oodbench.flow.bench import Bench
from oodbench.flow.fit import fitted
from oodbench.flow.measuring.blocks import Measured, measure
from oodbench.flow.plan import DetectorRequest, Job
from oodbench.flow.resolved_job import ResolvedJob, subset_indices
from oodbench.progress import Progress
from oodbench.store.store import Store

SCALE = "smoke"
#: Enough to tell waves from noise, within seconds for every recipe.
SHORT: dict[str, JSON] = {"training": {"epochs": 4, "epoch_images": 320}}
#: Enough to see whether training repeats.
SHORTEST: dict[str, JSON] = {"training": {"epochs": 1, "epoch_images": 64}}
SAMPLE = 12
T = TypeVar("T")


class Subject:
    """`request` names the detector; everything is made below `folder`.

    `fits` is where the fits of recipes are kept, so that detectors on one recipe share them;
    `recorded` is the store whose records the detector's source is compared with.
    """

    def __init__(
        self,
        request: DetectorRequest,
        folder: Path,
        fits: Store | None = None,
        recorded: Store | None = None,
    ) -> None:
        self.request, self.folder, self.recorded = request, folder, recorded
        self.cls: type[Detector] = request.detector
        self.fits = fits if fits is not None and self.cls.recipe_variant else None
        self.fitting: Detector | None = None
        self.models: list[torch.nn.Module] = []
        self.pickles: list[Path] = []
        self._made: dict[str, object] = {}

    # ------------------------------------------------------------------ images
    @cached_property
    def shape(self) -> Shape:
        """(C, H, W) of the mock images: those of the smallest recipe, 1×8×8 where there is none.

        ConfigError where no recipe has the scale "smoke".
        """
        if not self.cls.recipe_variant:
            return 1, 8, 8
        if self.request.recipe:
            return find_recipe(self.request.recipe).shape
        variant = self.cls.recipe_variant
        offering = [
            recipe.shape
            for recipe in recipe_files().values()
            if variant in recipe.variants and SCALE in recipe.scales and not recipe.in_dist
        ]
        if not offering:
            raise ConfigError(
                f"no recipe with the variant {variant!r} has the scale {SCALE!r}; name one with"
                f" {self.request.name}@RECIPE"
            )
        return min(offering, key=lambda shape: (np.prod(shape), shape))

    @cached_property
    def pair(self) -> Pair:
        """The mock pair."""
        folder = self.folder / "images"
        folder.mkdir(parents=True, exist_ok=True)
        in_dist, ood = write_toy(folder, self.shape)
        return Pair("waves-noise", str(in_dist), str(ood))

    @cached_property
    def sample(self) -> np.ndarray:
        """(N, C, H, W) uint8: ID and OOD images in turn, four more than the largest group."""
        job = self.resolved()
        half = max(SAMPLE, self.largest_group // 2 + 2)
        sides = job.test.images[:half], job.ood(self.pair).images[:half]
        return np.stack(sides, axis=1).reshape(2 * half, *self.shape)

    @property
    def largest_group(self) -> int:
        """Images that the largest group of a score holds, 1 without groups."""
        return max(self.cls.groups.values(), default=1)

    # ------------------------------------------------------------------ jobs
    def job(self, seed: int = 0, training: Mapping[str, JSON] = SHORT) -> Job:
        """The job on the mock pair."""
        overrides = training if self.cls.recipe_variant else {}
        return Job(self.request, self.pair.in_dist, (self.pair,), SCALE, seed, overrides)

    def bench(self, store: Store | None = None) -> Bench:
        """The CPU, without progress; a store of this subject where none is given."""
        chosen = store or self.fits or Store(self.folder / "store")
        return Bench(chosen, DataPlaces((), self.folder / "cache"), Progress("quiet"), "cpu")

    def resolved(
        self,
        seed: int = 0,
        store: Store | None = None,
        training: Mapping[str, JSON] = SHORT,
    ) -> ResolvedJob:
        """The resolved job with a new instance of the detector, which has learned nothing."""
        return ResolvedJob(self.bench(store), self.job(seed, training))

    def new_store(self) -> Store:
        """An empty store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Store(tempfile.mkdtemp(dir=self.folder, prefix="store-"))

    # ------------------------------------------------------------------ the learned detector
    def _once(self, what: str, make: Callable[[], T]) -> T:
        """What `make` gives, made once; what it raises is raised once.

        After that the checks that need it do not apply, so that a fault is told by one of them.
        """
        if what not in self._made:
            try:
                self._made[what] = make()
            except NotApplicable:
                raise
            except Exception as error:
                self._made[what] = error
                raise
        made = self._made[what]
        if isinstance(made, Exception):
            raise NotApplicable(f"needs {what}, which failed: {first_line(made)}")
        return cast(T, made)

    @contextmanager
    def needed_for(self, what: str) -> Iterator[None]:
        """What is raised inside stands for all that `what` would raise."""
        try:
            yield
        except NotApplicable:
            raise
        except Exception as error:
            self._made[what] = error
            raise

    @property
    def fitted_job(self) -> ResolvedJob:
        """The detector that has learned the ID set with seed 0, as a real run leaves it."""
        return self._once("the fit", self._learn)

    def _learn(self) -> ResolvedJob:
        job = self.resolved()
        self.fitting = detector = job.detector
        # Before anybody watches.
        _ = [len(images) for images in (job.train, job.validation) if images is not None]
        own_fit, own_attach = detector.fit, detector.attach

        def fit(train: ImageSet, context: FitContext) -> None:
            own_fit(train, context)
            # Now, since the folder of its checkpoints is about to be removed.
            written = {*self.fit_watch.written, *context.checkpoint.rglob("*")}
            self.pickles = sorted(path for path in written if is_pickle(path))

        def take(models: Sequence[torch.nn.Module]) -> None:
            self.models = list(models)
            own_attach(models)

        vars(detector).update(fit=fit, attach=take)
        with seeded(0), watching(self.fit_watch):
            fitted(job)
        return job

    @cached_property
    def fit_watch(self) -> Watch:
        """What was opened while it learned."""
        return self.watch()

    @cached_property
    def measure_watch(self) -> Watch:
        """What was opened while the sample was measured."""
        return self.watch()

    def watch(self) -> Watch:
        """A watch that lets the training images, and nothing else of the images, be opened."""
        job = self.resolved()
        array = Path(str(getattr(job.train.images, "filename", self.folder / "none")))
        store = Path(job.bench.store.storage.location)
        allowed = [array, array.with_suffix(".json"), store]
        return Watch([self.folder / "images", self.folder / "cache"], allowed)

    @property
    def detector(self) -> Detector:
        """The detector of `fitted_job`."""
        return self.fitted_job.detector

    # ------------------------------------------------------------------ measuring
    def measure(
        self,
        job: ResolvedJob,
        images: np.ndarray,
        indices: np.ndarray | None = None,
        *,
        batch_size: int = 100,
        seed: int = 0,
    ) -> Measured:
        """As in a run: float64 statistics of `images[indices]`, noise keyed by (seed, index)."""
        chosen = np.arange(len(images)) if indices is None else indices
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            return measure(
                job.detector, images, chosen, seed=seed, device="cpu", batch_size=batch_size,
                scratch=Path(scratch), progress=job.bench.progress, label="",
            )  # fmt: skip

    @property
    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics of the sample."""
        job = self.fitted_job
        return self._once("a measurement", lambda: self._measure_sample(job))

    def _measure_sample(self, job: ResolvedJob) -> dict[str, np.ndarray]:
        sample = self.sample
        with seeded(1), watching(self.measure_watch):
            return self.measure(job, sample).statistics

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores, the detector having been calibrated as in a run."""
        job = self.fitted_job
        self._once("the calibration", lambda: self._calibrate(job))
        return job.detector.scores({name: values.copy() for name, values in statistics.items()})

    def _calibrate(self, job: ResolvedJob) -> None:
        with watching(self.measure_watch):
            self.calibrate(job)

    def calibrate(self, job: ResolvedJob) -> None:
        """Calibrate as a run does, on the statistics of a seeded subset of the training images.

        A detector that chooses does so on these and on the validation set of its recipe.
        """
        if not job.detector.calibrates() and job.validation is None:
            return
        inside = self._measure_subset(job, job.train, job.train_subset)
        if job.detector.calibrates():
            job.detector.calibrate(inside | self._labels(job))
        if job.validation is not None:
            size = job.validation_subset or len(job.validation)
            outside = self._measure_subset(job, job.validation, size)
            job.detector.choose(inside, outside)

    def _labels(self, job: ResolvedJob) -> dict[str, np.ndarray]:
        """Labels of the training images that calibrate, where a run hands them over."""
        labels = job.train.labels
        if labels is None or job.detector.category not in WITH_LABELS:
            return {}
        chosen = labels[subset_indices(len(labels), job.train_subset)]
        return {"label": job.numbered(chosen, job.recipe)}

    def _measure_subset(
        self, job: ResolvedJob, images: ImageSet, size: int
    ) -> dict[str, np.ndarray]:
        chosen = subset_indices(len(images), size)
        return self.measure(job, images.images, chosen).statistics


@contextmanager
def seeded(number: int) -> Iterator[None]:
    """All global generators seeded with `number` meanwhile, and put back afterwards."""
    own, state = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002
        random.seed(number)
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(state)  # noqa: NPY002


def first_line(error: BaseException) -> str:
    """Type and first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def largest_difference(
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    allowed: Callable[[np.ndarray], np.ndarray | float],
) -> tuple[str, int, float, float] | None:
    """Name, row and both values of the worst difference beyond what `allowed` says, or None.

    `allowed` gets the values of `a` and gives the tolerance, for every value or for all.
    """
    worst: tuple[float, tuple[str, int, float, float]] | None = None
    for name in a:
        left, right = a[name], b[name]
        if left.shape != right.shape:
            return name, 0, float(len(left)), float(len(right))
        tolerance = np.broadcast_to(np.asarray(allowed(left), dtype=np.float64), left.shape)
        excess = np.abs(left - right) - tolerance
        excess = np.where(np.isnan(left) != np.isnan(right), np.inf, np.nan_to_num(excess))
        if excess.size and excess.max() > 0:
            at = np.unravel_index(int(excess.argmax()), excess.shape)
            found = name, int(at[0]), float(left[at]), float(right[at])
            if worst is None or excess.max() > worst[0]:
                worst = float(excess.max()), found
    return None if worst is None else worst[1]
