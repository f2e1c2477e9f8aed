"""Doing a job: fit → measure → score → rank, each step found in the store or made once.

A job is one detector on one ID set with one seed, against the OOD sets of its pairs.  Its steps
are entries of the store, keyed by what made them; the ID test split is measured once for all
pairs.  torch is imported only when something has to be trained or measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from oodbench.datasets.pairs import Pair
from oodbench.detect.detector import Detector
from oodbench.errors import DataError, OodbenchError
from oodbench.flow.bench import Bench
from oodbench.flow.fit import fitted
from oodbench.flow.keys import fit_key, measure_key, run_key, score_key
from oodbench.flow.measure import is_measured, measure
from oodbench.flow.missing_steps import finished, has_fits
from oodbench.flow.plan import Job
from oodbench.flow.rank import rank
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.flow.run_records import difference, with_notes_of_today
from oodbench.flow.score import Compared, compared, score, scores
from oodbench.flow.stored.runs import shown_as
from oodbench.store.store import DamagedEntryError, Entry, Key
from oodbench.train.torch_state import own_torch_state

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet

ATTEMPTS = 4
log = logging.getLogger("oodbench.flow")
T = TypeVar("T")


@dataclass
class Outcome:
    """Run entries of a job's pairs, and what went wrong with the others."""

    entries: list[Entry] = field(default_factory=list)
    failures: list[OodbenchError] = field(default_factory=list)


def perform(bench: Bench, job: Job) -> Outcome:
    """The run entries of a job's pairs, made where they are missing.

    A pair that cannot be done does not stop the others.  A damaged entry met on the way is set
    aside by the store and made again.
    """
    try:
        return mended(lambda: _perform(ResolvedJob(bench, job)))
    except DamagedEntryError:
        raise
    except OodbenchError as error:
        return Outcome([], [error])


def _perform(job: ResolvedJob) -> Outcome:
    """One run entry per pair; data are checked before anything is trained."""
    out = Outcome()
    ready: list[tuple[Pair, ImageSet]] = []
    for pair in job.pairs:
        try:
            ready.append((pair, job.ood(pair)))
        except DataError as error:
            out.failures.append(error)
    missing = [ood for _, ood in ready if finished(job, ood) is None]
    try:
        detector = _ready(job, [job.test, *missing]) if missing else None
        for pair, ood in ready:
            entry = finished(job, ood) or _flow(job, pair, ood, detector)
            out.entries.append(with_notes_of_today(shown_as(entry, pair), job, ood))
    except DamagedEntryError:
        raise
    except OodbenchError as error:
        out.failures.append(error)  # the next pair would meet it again
    return out


def _ready(job: ResolvedJob, tests: Sequence[ImageSet]) -> Detector | None:
    """The detector with what it learned, where anything is left to measure; None elsewhere."""
    measured = [(images, job.subset(images)) for images in tests] + job.compared()
    complete = has_fits(job)
    complete = complete and all(is_measured(job, images, subset) for images, subset in measured)
    if complete and job.detector.scores_with_models:
        complete = all(job.store.find(score_key(job, images)) is not None for images in tests)
    return None if complete else fitted(job)


def _flow(job: ResolvedJob, pair: Pair, ood: ImageSet, detector: Detector | None) -> Entry:
    """The run of a pair from what was fitted on: measure, score, rank.

    A run that only lacked something stays as it is, unless its scores had to be made again.
    """
    keys = [score_key(job, images) for images in (job.test, ood)]
    before = job.store.get("run", run_key(job, ood).digest)
    scored_before = all(job.store.holds(key) for key in keys)
    id_measured, ood_measured = (
        measure(job, images, job.subset(images), detector) for images in (job.test, ood)
    )
    beside = _beside(job, detector)
    id_scored = score(job, job.test, id_measured, beside)
    ood_scored = score(job, ood, ood_measured, beside)
    if before is not None and not before.imported and scored_before:
        return before
    entry = rank(job, pair, ood, (id_scored, ood_scored), (id_measured, ood_measured))
    if before is not None and (apart := difference(entry, before, ("now", "before"))):
        was = f"imported from {before.imported['from']}" if before.imported else "lost in part"
        log.warning(
            "%s on %s, run %s, was %s and came out otherwise: %s",
            entry.record["detector"], entry.record["pair"], entry.digest[:12], was, apart,
        )  # fmt: skip
    return entry


def _beside(job: ResolvedJob, detector: Detector | None) -> Compared:
    """All that is measured beside the test images; what scores compare with."""
    for images, subset in job.compared():
        measure(job, images, subset, detector)
    return compared(job, detector)


@dataclass(frozen=True)
class Learned:
    """What a job knows of its ID set: the scores of the ID test images, and the entries behind.

    `fits` in the order of `ResolvedJob.fits`; `compared` are the statistics that its scores compare
    with, by what they are: ``reference`` for `calibrate`, ``inside`` and ``outside`` for `choose`.
    """

    job: ResolvedJob
    scores: Mapping[str, np.ndarray]
    measurement: Key
    fits: Sequence[tuple[Key, bytes]]
    compared: Compared


def learn(bench: Bench, job: Job) -> Learned:
    """Everything of a job but its OOD sets, made where it is missing."""
    return mended(lambda: _learn(ResolvedJob(bench, job)))


def _learn(job: ResolvedJob) -> Learned:
    detector = fitted(job)
    beside = compared(job, detector)
    measured = measure(job, job.test, job.subset(job.test), detector)
    scored = scores(score(job, job.test, measured, beside))
    fits = []
    for fit in job.fits if job.has_fit else []:
        key = fit_key(job, fit)
        entry = job.store.find(key)
        if entry is None:
            raise DamagedEntryError(f"{key.path} is gone")
        file = "state" if fit.recipe is None else "weights"
        fits.append((key, entry.read(f"{file}.safetensors")))
    return Learned(job, scored, measure_key(job, job.test, job.subset(job.test)), fits, beside)


@dataclass(frozen=True)
class HeldOut:
    """Scores (n,) of ID images that no fit has seen; `dims` = D."""

    scores: Mapping[str, np.ndarray]
    split: str
    dims: int


def score_held_out(bench: Bench, job: Job) -> HeldOut:
    """The held-out ID images of a job, measured and scored where that is missing."""
    return mended(lambda: _score_held_out(ResolvedJob(bench, job)))


def _score_held_out(job: ResolvedJob) -> HeldOut:
    images = job.held_out
    entry = job.store.find(score_key(job, images))
    if entry is None:
        detector = _ready(job, [images])
        measured = measure(job, images, job.subset(images), detector)
        entry = score(job, images, measured, compared(job, detector))
    return HeldOut(scores(entry), images.split, images.dims)


def mended(make: Callable[[], T]) -> T:
    """What `make` gives, once more where it meets a damaged entry, which is then set aside."""
    with own_torch_state():
        for _ in range(ATTEMPTS - 1):
            with suppress(DamagedEntryError):
                return make()
        return make()
