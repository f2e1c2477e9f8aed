"""The default executor: jobs one after another in this process.

A job that fails does not stop the others, so that everything that can be finished is.
"""

from __future__ import annotations

from collections.abc import Sequence

from oodbench.errors import OodbenchError
from oodbench.jobkeys import Bench
from oodbench.plan import Job
from oodbench.runner import Outcome, perform


def run_jobs(bench: Bench, jobs: Sequence[Job]) -> Outcome:
    """Run entries of all jobs in order, and every failure."""
    whole = Outcome()
    for job in jobs:
        done = perform(bench, job)
        whole.entries += done.entries
        whole.failures += done.failures
    return whole


def raise_failures(outcome: Outcome) -> None:
    """OodbenchError with every distinct failure in one line, where there is any."""
    messages = list(dict.fromkeys(str(failure) for failure in outcome.failures))
    if len(messages) == 1:
        raise outcome.failures[0]
    if messages:
        raise OodbenchError("; ".join(messages))
