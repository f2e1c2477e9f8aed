"""What a job would have to make: the steps whose entries the store lacks, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from oodbench.errors import DataError, OodbenchError
from oodbench.flow.keys import Bench, Fit, JobKeys
from oodbench.flow.plan import Job
from oodbench.store.store import Key

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet


@dataclass(frozen=True)
class Step:
    """Something that a job lacks; steps with one `key` are one step.

    `images`: to be trained on (with repetition) or to be measured.  `seconds`: what that takes by
    the speed of a stored fit of the same recipe, None where there is none.
    """

    key: str
    text: str
    images: int = 0
    seconds: float | None = None


def missing_steps(bench: Bench, job: Job) -> list[Step]:
    """What `perform` would have to make: "fit …", "measure …", "rank …"; makes nothing.

    Raises DataError where images are missing or do not fit, as `perform` would.
    """
    keys, store = JobKeys(bench, job), bench.store
    keyed = [(keys.fit_key(fit), fit) for fit in keys.fits] if keys.has_fit else []
    steps = [_missing_fit(keys, key, fit) for key, fit in keyed if store.find(key) is None]
    for pair in job.pairs:
        ood = keys.ood(pair)
        run_key = keys.run_key(ood)
        unranked = store.find(run_key) is None
        measured = [(images, keys.subset(images)) for images in (keys.test, ood)]
        for images, subset in [*measured, *(keys.compared() if unranked else [])]:
            steps += _missing_measure(keys, images, subset)
        if unranked:
            steps.append(Step(run_key.digest, f"rank {job.label} on {pair.name}"))
    return distinct(steps)


def missing_held_out(bench: Bench, job: Job) -> list[Step]:
    """What `score_held_out` would have to measure."""
    keys = JobKeys(bench, job)
    return _missing_measure(keys, keys.held_out, keys.subset(keys.held_out))


def missing_of_all(bench: Bench, jobs: Sequence[Job]) -> tuple[list[Step], list[OodbenchError]]:
    """What all jobs together would have to make, a step that they share once; and what fails."""
    found: list[Step] = []
    failures: list[OodbenchError] = []
    for job in jobs:
        try:
            found += missing_steps(bench, job)
        except DataError as error:
            failures.append(error)
    return distinct(found), failures


def distinct(steps: Iterable[Step]) -> list[Step]:
    """Every step once, where it stands first."""
    return list({step.key: step for step in reversed(list(steps))}.values())[::-1]


def _missing_measure(keys: JobKeys, images: ImageSet, subset: int) -> list[Step]:
    key = keys.measure_key(images, subset)
    if keys.bench.store.find(key) is not None:
        return []
    split = "" if images.split == "test" else f" {images.split}"
    text = f"measure {images.name}{split} with {keys.job.label}"
    return [Step(key.digest, text, subset or len(images))]


def _missing_fit(keys: JobKeys, key: Key, fit: Fit) -> Step:
    if fit.recipe is None:
        return Step(key.digest, f"fit {fit.label}", len(keys.train))
    training, recipe = fit.recipe.training, (fit.recipe.label, fit.recipe.variant)
    images = training.epochs * (training.epoch_images or training.max_images or len(keys.train))
    speeds = [
        float(cast(float, entry.record["images_per_second"]))
        for entry in keys.bench.store.entries("fit")
        if (entry.record.get("recipe"), entry.record.get("variant")) == recipe
    ]
    seconds = images / speeds[-1] if speeds else None
    return Step(key.digest, f"fit {fit.label}", images, seconds)
