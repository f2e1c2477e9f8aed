"""When a run is finished: its record is there, and with it everything that it rests on.

Parts of a store get lost (a quota, half a copy, a folder deleted by hand).  What a run rests on is
read again by figures, paired tests and the report, so a run that lacks any of it is not finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from oodbench.flow.keys import fit_keys, measure_key, run_key, score_key

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet
    from oodbench.flow.resolved_job import ResolvedJob
    from oodbench.store.store import Entry, Key


def finished(job: ResolvedJob, ood: ImageSet) -> Entry | None:
    """The run of a pair, None where anything of it has to be made, or made again."""
    run = job.store.find(run_key(job, ood))
    if run is None or run.imported:  # that one is trusted as it is, often without what is behind
        return run
    return run if all(job.store.holds(key) for key in _behind(job, ood)) else None


def has_fits(job: ResolvedJob) -> bool:
    """Whether the store holds all that the job learns, or something imported stands for it."""
    if not job.has_fit or all(job.store.holds(key) for key in fit_keys(job)):
        return True
    measured = job.store.find(measure_key(job, job.test, job.subset(job.test)))
    return measured is not None and bool(measured.imported)


def _behind(job: ResolvedJob, ood: ImageSet) -> Iterator[Key]:
    """The keys of everything that a run rests on, but what its diagnostics alone needed."""
    yield from (score_key(job, images) for images in (job.test, ood))
    measured = [(images, job.subset(images)) for images in (job.test, ood)]
    measured += job.compared() if job.compares else []
    yield from (measure_key(job, *which) for which in measured)
    if job.has_fit:
        yield from fit_keys(job)
