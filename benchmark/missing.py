"""What a job would have to make: the steps whose entries the store lacks, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from oodbench.errors import DataError, OodbenchError
from oodbench.jobkeys import Bench, Fit, JobKeys
from oodbench.plan import Job
from oodbench.store import Key


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
        measured = [(images, keys.subset(images)) for images in (keys.test, ood)]
        run_key = keys.run_key(ood)
        unranked = store.find(run_key) is None
        if unranked:
            measured += keys.compared()
        for images, subset in measured:
            key = keys.measure_key(images, subset)
            if store.find(key) is None:
                name = images.name if images.split == "test" else f"{images.name} {images.split}"
                text = f"measure {name} with {job.label}"
                steps.append(Step(key.digest, text, subset or len(images)))
        if unranked:
            steps.append(Step(run_key.digest, f"rank {job.label} on {pair.name}"))
    return list({step.key: step for step in steps}.values())


def missing_of_all(bench: Bench, jobs: Sequence[Job]) -> tuple[list[Step], list[OodbenchError]]:
    """What all jobs together would have to make, a step that they share once; and what fails."""
    found: list[Step] = []
    failures: list[OodbenchError] = []
    for job in jobs:
        try:
            found += missing_steps(bench, job)
        except DataError as error:
            failures.append(error)
    return list({step.key: step for step in reversed(found)}.values())[::-1], failures


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
