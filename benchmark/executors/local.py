"""The default executor: jobs one after another in this process.

A job that fails does not stop the others; the failures are raised together at the end, so that
everything that could be finished is.
"""

from __future__ import annotations

from collections.abc import Sequence

from oodbench.errors import OodbenchError
from oodbench.plan import Job
from oodbench.runner import Bench, perform
from oodbench.store import Entry


def run_jobs(bench: Bench, jobs: Sequence[Job]) -> list[list[Entry]]:
    """Run entries of every job, in order; OodbenchError naming every job that failed."""
    done: list[list[Entry]] = []
    failures: list[tuple[Job, OodbenchError]] = []
    for job in jobs:
        try:
            done.append(perform(bench, job))
        except OodbenchError as error:
            failures.append((job, error))
            done.append([])
    if failures:
        distinct = list(dict.fromkeys(str(error) for _, error in failures))
        if len(distinct) == 1:
            raise failures[0][1]
        raise OodbenchError("; ".join(f"{job.label}: {error}" for job, error in failures))
    return done
