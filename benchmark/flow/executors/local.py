"""The default executor: jobs one after another in this process.

A job that fails does not stop the others, so that everything that can be finished is.  Processes
on one store share the work: what another one is making is left for later, and waited for only
when nothing else is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from oodbench.errors import OodbenchError
from oodbench.flow.bench import Bench, BusyError
from oodbench.flow.perform import Outcome, perform
from oodbench.flow.plan import Job

T = TypeVar("T")


def run_jobs(bench: Bench, jobs: Sequence[Job]) -> Outcome:
    """Run entries of all jobs in their order, and every failure; a lower rank is run first."""
    order = sorted(range(len(jobs)), key=lambda number: jobs[number].rank)
    results = in_turn(bench, [partial(perform, job=jobs[number]) for number in order])
    whole = Outcome()
    for _, done in sorted(zip(order, results, strict=True), key=lambda pair: pair[0]):
        whole.entries += done.entries
        whole.failures += done.failures
    return whole


def in_turn(bench: Bench, tasks: Sequence[Callable[[Bench], T]]) -> list[T]:
    """What the tasks give, in their order; one that raises BusyError is tried again later.

    A task is called with a bench that does not wait, and with one that does where all that is left
    is being made elsewhere.
    """
    results: dict[int, T] = {}
    left = list(range(len(tasks)))
    while left:
        busy = []
        for number in left:
            try:
                results[number] = tasks[number](replace(bench, patient=False))
            except BusyError:
                busy.append(number)
        if len(busy) == len(left):
            number = busy.pop(0)
            results[number] = tasks[number](bench)
        left = busy
    return [results[number] for number in range(len(tasks))]


def raise_failures(outcome: Outcome) -> None:
    """OodbenchError with every distinct failure in one line, where there is any."""
    messages = list(dict.fromkeys(str(failure) for failure in outcome.failures))
    if len(messages) == 1:
        raise outcome.failures[0]
    if messages:
        raise OodbenchError("; ".join(messages))
