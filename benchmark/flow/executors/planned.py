"""Running jobs as a graph of steps with a crew, and what came of it in the order of the jobs.

What the store loses under way (a damaged file that was set aside) is planned again at the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

from oodbench.canonical_json import digest
from oodbench.errors import OodbenchError, StoreError
from oodbench.flow.executors.board import Board
from oodbench.flow.executors.crews.messages import job_message, setup_of
from oodbench.flow.executors.crews.travelling import (
    check_sendable,
    packed_plugins,
    packed_project,
    signature,
)
from oodbench.flow.executors.crews.workers import Workers
from oodbench.flow.executors.dispatch import Crew, Dispatched, FailedStepError, dispatch
from oodbench.flow.executors.graph import Graph, plan
from oodbench.flow.perform import Outcome
from oodbench.flow.stored.runs import shown_as

if TYPE_CHECKING:
    from oodbench.flow.bench import Bench
    from oodbench.flow.executors.crews.messages import Setup
    from oodbench.flow.plan import Job

#: How often a plan is gone through, where an entry of it is found to be damaged at the end.
ROUNDS = 3


def run_planned(bench: Bench, jobs: Sequence[Job], workers: Workers) -> Outcome:
    """Run entries of all jobs in their order and every failure, as `local.run_jobs` gives them."""
    if not jobs:
        return Outcome()
    check_sendable(jobs)
    graph = plan(bench, jobs)
    write_plan(bench, jobs, graph)
    failures: list[OodbenchError] = [error for _, error in graph.failures]
    lost: list[FailedStepError] = []
    if graph.steps:
        _announce(bench, graph, workers)
        # Standard output holds the tables alone: Ray tells it of nodes that are lost.
        aside = redirect_stdout(sys.stderr) if workers.executor == "ray" else nullcontext()
        with aside:
            crew = make_crew(bench, jobs, workers, graph)
            try:
                lost = _rounds(bench, jobs, graph, crew)
            finally:
                crew.close()
    return _outcome(bench, graph, [*failures, *lost])


def _announce(bench: Bench, graph: Graph, workers: Workers) -> None:
    total, known = len(graph.steps), len(graph.there)
    there = f", {known} are there" if known else ""
    where = f"{workers.jobs} processes" if workers.executor == "local" else "Ray"
    bench.progress.say(f"{total} steps to make{there}; on {where}")


def make_crew(bench: Bench, jobs: Sequence[Job], workers: Workers, graph: Graph) -> Crew:
    """The workers, told what they have to know; to be closed in any case."""
    from oodbench.declare.declarations import project_folder

    setup = setup_of(
        bench,
        workers.cpus,
        plugins=packed_plugins(),
        project=packed_project(project_folder()),
        signature=signature([job.request.name for job in jobs]),
    )
    make = _ray if workers.executor == "ray" else _processes
    return make(bench, setup, workers, graph)


def _processes(bench: Bench, setup: Setup, workers: Workers, graph: Graph) -> Crew:
    from oodbench.flow.executors.crews.processes import Processes

    return Processes(setup, min(workers.jobs, len(graph.steps)), bench.progress.say)


def _ray(bench: Bench, setup: Setup, workers: Workers, graph: Graph) -> Crew:
    from oodbench.flow.executors.crews.on_ray import RayCrew

    return RayCrew(bench, setup, workers, graph)


def _rounds(bench: Bench, jobs: Sequence[Job], graph: Graph, crew: Crew) -> list[FailedStepError]:
    """All that cannot be made, once everything that can be is."""
    failures: dict[str, FailedStepError] = {}
    left = graph
    for _ in range(ROUNDS):
        board = Board(bench, left)
        crew.tell = board.say
        with board.drawn():
            done: Dispatched = dispatch(left, crew, board, bench.store.storage)
        failures |= {failure.step.key: failure for failure in done.failures}
        again = plan(bench, jobs)
        left = without(again, set(failures))
        if not left.steps:
            return list(failures.values())
    raise StoreError(
        f"{len(left.steps)} entries were made and are damaged or gone; see `oodbench store verify`"
    )


def without(graph: Graph, failed: set[str]) -> Graph:
    """A graph without the steps that failed and all that waits for them."""
    gone = {key for key in graph.steps if key in failed}
    for key in graph.in_order():
        if any(need in gone for need in graph.steps[key].needs):
            gone.add(key)
    kept = {key: step for key, step in graph.steps.items() if key not in gone}
    return Graph(kept, graph.runs, graph.failures, graph.there)


def _outcome(bench: Bench, graph: Graph, failures: Sequence[OodbenchError]) -> Outcome:
    out = Outcome(failures=list(failures))
    for wanted in graph.runs:
        entry = bench.store.get("run", wanted.key)
        if entry is not None:
            out.entries.append(shown_as(entry, wanted.job.pairs[wanted.pair]))
        elif not failures:
            raise StoreError(f"run {wanted.key[:12]} is gone; the same command makes it again")
    return out


# ------------------------------------------------------------------ plans in the store
PLANS = "work/plans"


def plan_name(jobs: Sequence[Job]) -> str:
    """Digest of what is asked for and of the sources: the same jobs have the same plan."""
    sources = signature([job.request.name for job in jobs])
    asked: list[Any] = [job_message(job) for job in jobs]
    return digest(json.loads(json.dumps([asked, sources["oodbench"], sources["detectors"]])))


def plan_body(jobs: Sequence[Job], graph: Graph) -> dict[str, Any]:
    """A plan as plain data: steps, what is there, and what cannot be planned."""
    steps = [
        [step.key, step.stage, step.text, list(step.needs), list(step.also), round(step.seconds, 3)]
        for step in graph.steps.values()
    ]
    failures = [[job.label, str(error)] for job, error in graph.failures]
    return {"steps": steps, "there": sorted(graph.there.items()), "failures": failures,
            "jobs": len(jobs)}  # fmt: skip


def write_plan(bench: Bench, jobs: Sequence[Job], graph: Graph) -> None:
    """Leave the plan in the store, so that any machine can say how far it is."""
    body = json.dumps(plan_body(jobs, graph)).encode()
    with suppress(StoreError):  # nobody's work stops where only the status would suffer
        bench.store.storage.mark()
        bench.store.storage.note(f"{PLANS}/{plan_name(jobs)}.json", body)
