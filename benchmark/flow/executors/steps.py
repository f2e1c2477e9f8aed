"""One step of a plan: what it is called, what it needs, and how it is done in whatever process.

A step is (job, part): ``fit:0``, ``measure:test``, ``measure:train``, ``measure:validation``,
``measure:ood:1``, ``score:test``, ``score:ood:1``, ``rank:1``.  Whoever does it makes its key anew
from what is found there, images and versions, and refuses where that is not the key that was
planned: a machine with other data cannot add to a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oodbench.errors import OodbenchError
from oodbench.flow.fit import fitted, make_fit
from oodbench.flow.keys import fit_key, measure_key, run_key, score_key
from oodbench.flow.measure import is_measured, measure
from oodbench.flow.perform import mended, perform
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.flow.score import compared, score
from oodbench.store.store import DamagedEntryError, Key

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet
    from oodbench.flow.bench import Bench
    from oodbench.flow.plan import Job


@dataclass(frozen=True)
class Step:
    """Something to be made once: its `key`, and in `needs` the keys of what has to be there before.

    `also`: keys of what the same step makes beside its own.  `seconds` is what it may take,
    `images` how many it trains on or measures; `gpu` whether it computes with models.
    """

    key: str
    stage: str
    text: str
    job: Job
    part: str
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    images: int = 0
    seconds: float = 0.0
    gpu: bool = False


class OtherKeyError(OodbenchError):
    """What is found here does not give the key that was planned."""


def images_of(job: ResolvedJob, role: str) -> tuple[ImageSet, int]:
    """The images of a role (``test``, ``train``, ``validation``, ``ood:1``), the subset's size."""
    if role == "train":
        return job.train, job.train_subset
    if role == "validation":
        assert job.validation is not None
        return job.validation, job.validation_subset
    images = job.test if role == "test" else job.ood(job.pairs[int(role.partition(":")[2])])
    return images, job.subset(images)


def step_key(job: ResolvedJob, part: str) -> Key:
    """The key of a part of a job, from the images and versions that are here."""
    stage, _, which = part.partition(":")
    if stage == "fit":
        return fit_key(job, job.fits[int(which)])
    if stage == "measure":
        return measure_key(job, *images_of(job, which))
    if stage == "score":
        return score_key(job, images_of(job, which)[0])
    return run_key(job, job.ood(job.pairs[int(which)]))


def do_step(bench: Bench, step: Step) -> None:
    """Make the entry of a step where it is missing, and whatever else its damage has left missing.

    Raises OodbenchError where it cannot be made, OtherKeyError where it would be another's, and
    `oodbench.flow.bench.BusyError` where somebody else is making it and the bench is not patient.
    """
    mended(lambda: _do(ResolvedJob(bench, step.job), step))


def _do(job: ResolvedJob, step: Step) -> None:
    key = step_key(job, step.part)
    if key.digest != step.key:
        raise OtherKeyError(
            f"{step.text}: the key here is {key.digest[:12]}, not {step.key[:12]} as planned;"
            " images or versions differ (`oodbench data status` on both machines)"
        )
    stage, _, which = step.part.partition(":")
    if stage == "rank":
        _rank(job, int(which))
    elif stage == "score":
        _score(job, which)
    elif stage == "measure":
        _measure(job, which)
    elif step.also:
        _fit_and_measure(job, step)
    else:
        _fit(job, int(which))


def _fit(job: ResolvedJob, number: int) -> None:
    fit = job.fits[number]
    if fit.recipe is None:
        fitted(job)  # on its models, where it has any
        return
    job.store.obtain(fit_key(job, fit), lambda key: make_fit(job, key, fit), job.bench.on_wait)


def _fit_and_measure(job: ResolvedJob, step: Step) -> None:
    """Of a detector that would have to learn again to measure: all that needs it, at once."""
    detector = fitted(job)
    for images, subset in every_measured(job):
        if measure_key(job, images, subset).digest in step.also:
            measure(job, images, subset, detector)


def every_measured(job: ResolvedJob) -> Iterator[tuple[ImageSet, int]]:
    """All images that a job measures, the test images of its pairs included."""
    yield images_of(job, "test")
    for number in range(len(job.pairs)):
        yield images_of(job, f"ood:{number}")
    yield from job.compared()


def _measure(job: ResolvedJob, role: str) -> None:
    images, subset = images_of(job, role)
    if not is_measured(job, images, subset):
        measure(job, images, subset, fitted(job))


def _score(job: ResolvedJob, role: str) -> None:
    images, subset = images_of(job, role)
    detector = fitted(job) if job.detector.scores_with_models else None
    try:
        score(job, images, measure(job, images, subset, detector), compared(job, detector))
    except DamagedEntryError:
        if detector is not None:
            raise
        detector = fitted(job)  # a measurement is gone
        score(job, images, measure(job, images, subset, detector), compared(job, detector))


def _rank(job: ResolvedJob, number: int) -> None:
    one = replace(job.asked, pairs=(job.pairs[number],))
    outcome = perform(job.bench, one)
    for failure in outcome.failures:
        raise failure
