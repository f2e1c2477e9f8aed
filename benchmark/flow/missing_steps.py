"""What a job would have to make: the steps whose entries the store lacks, and what they cost.

A run is finished when everything that it rests on is there too.  Parts of a store get lost (a
quota, half a copy, a folder deleted by hand), and what a run rests on is read again by figures,
paired tests and the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from oodbench.errors import DataError, OodbenchError
from oodbench.flow.bench import Bench
from oodbench.flow.keys import fit_key, fit_keys, measure_key, run_key, score_key
from oodbench.flow.plan import Job
from oodbench.flow.resolved_job import Fit, ResolvedJob
from oodbench.store.store import Key

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet
    from oodbench.declare.recipes import Recipe
    from oodbench.store.store import Entry
    from oodbench.train.trial_step import Estimate


@dataclass(frozen=True)
class Step:
    """Something that a job lacks; steps with one `key` are one step.

    `images`: to be trained on (with repetition) or to be measured.  `seconds`: what that takes by
    the speed of a stored fit of the same recipe, else for a derived recipe by one step of it; None
    where neither is there.  `memory`: bytes that such a step needs.
    """

    key: str
    text: str
    images: int = 0
    seconds: float | None = None
    memory: int | None = None


def finished(job: ResolvedJob, ood: ImageSet) -> Entry | None:
    """The run of a pair, None where anything of it has to be made, or made again."""
    run = job.store.find(run_key(job, ood))
    if run is None or run.imported:  # that one is trusted as it is, often without what is behind
        return run
    return run if all(job.store.holds(key) for key in behind(job, ood)) else None


def has_fits(job: ResolvedJob, holds: Callable[[Key], bool] | None = None) -> bool:
    """Whether the store holds all that the job learns, or something imported stands for it.

    `holds` answers for the store where it has been asked before.
    """
    if not job.has_fit or all(map(holds or job.store.holds, fit_keys(job))):
        return True
    measured = job.store.find(measure_key(job, job.test, job.subset(job.test)))
    return measured is not None and bool(measured.imported)


def behind(job: ResolvedJob, ood: ImageSet) -> Iterator[Key]:
    """The keys of everything that a run rests on, but what its diagnostics alone needed."""
    yield from (score_key(job, images) for images in (job.test, ood))
    measured = [(images, job.subset(images)) for images in (job.test, ood)]
    measured += job.compared() if job.compares else []
    yield from (measure_key(job, *which) for which in measured)
    if job.has_fit:
        yield from fit_keys(job)


def missing_steps(bench: Bench, job: Job) -> list[Step]:
    """What `perform` would have to make: "fit …", "measure …", "rank …"; makes nothing.

    A run that is there lacks what it rests on where that is gone, "score …" among it.

    Raises DataError where images are missing or do not fit, as `perform` would.
    """
    found, store = ResolvedJob(bench, job), bench.store
    keyed = [(fit_key(found, fit), fit) for fit in found.fits] if found.has_fit else []
    steps = [_missing_fit(found, key, fit) for key, fit in keyed if not store.holds(key)]
    steps = [] if has_fits(found) else steps
    for pair in job.pairs:
        ood = found.ood(pair)
        key = run_key(found, ood)
        run = store.find(key)
        if run is not None and run.imported:
            continue
        unranked = run is None
        measured = [(images, found.subset(images)) for images in (found.test, ood)]
        for images, subset in [
            *measured,
            *(found.compared() if unranked or found.compares else []),
        ]:
            steps += _missing_measure(found, images, subset)
        for images in () if unranked else (found.test, ood):
            scored = score_key(found, images)
            if not store.holds(scored):
                steps.append(Step(scored.digest, f"score {images.name} with {job.label}"))
        if unranked:
            steps.append(Step(key.digest, f"rank {job.label} on {pair.name}"))
    return distinct(steps)


def missing_held_out(bench: Bench, job: Job) -> list[Step]:
    """What `score_held_out` would have to measure."""
    found = ResolvedJob(bench, job)
    return _missing_measure(found, found.held_out, found.subset(found.held_out))


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


def _missing_measure(job: ResolvedJob, images: ImageSet, subset: int) -> list[Step]:
    key = measure_key(job, images, subset)
    if job.store.holds(key):
        return []
    split = "" if images.split == "test" else f" {images.split}"
    text = f"measure {images.name}{split} with {job.label}"
    return [Step(key.digest, text, subset or len(images))]


def _missing_fit(job: ResolvedJob, key: Key, fit: Fit) -> Step:
    if fit.recipe is None:
        return Step(key.digest, f"fit {fit.label}", len(job.train))
    recipe = fit.recipe.label, fit.recipe.variant
    images = training_images(fit.recipe, job.train)
    speeds = [
        float(cast(float, entry.record["images_per_second"]))
        for entry in job.store.entries("fit")
        if (entry.record.get("recipe"), entry.record.get("variant")) == recipe
        and "images_per_second" in entry.record
    ]
    seconds, memory = images / speeds[-1] if speeds else None, None
    if fit.recipe.derived:
        found = trial(job, fit.recipe)
        if found is not None:
            memory = found.bytes
            seconds = images * found.seconds if seconds is None else seconds
    return Step(key.digest, f"fit {fit.label}", images, seconds, memory)


def trial(job: ResolvedJob, recipe: Recipe) -> Estimate | None:
    """What training a recipe takes here, by one step of it; None where that cannot be told."""
    from oodbench.detect.entitlement import takes_labels
    from oodbench.errors import plugin_contract
    from oodbench.train.devices import pick_device
    from oodbench.train.trial_step import estimate

    with plugin_contract(recipe.config, "a step of training", kind="model"):
        return estimate(
            lambda: recipe.build(job.test.shape), job.test.shape, recipe.training,
            pick_device(job.bench.device), labelled=takes_labels(recipe),
            outliers=bool(getattr(recipe.config, "needs_outliers", False)),
        )  # fmt: skip


def training_images(recipe: Recipe, train: ImageSet) -> int:
    """Images that a fit is trained on, with repetition, from the snapshot before it on."""
    training = recipe.training
    begun = training.before.epochs if training.before is not None else 0
    each = training.epoch_images or training.max_images or len(train)
    return (training.epochs - begun) * each
