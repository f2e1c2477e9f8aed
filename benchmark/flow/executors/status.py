"""What of a plan is made, runs, waits or failed, from the store alone; no image is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from oodbench.errors import OodbenchError, StoreError
from oodbench.flow.executors.board import beat_line, duration
from oodbench.flow.executors.planned import PLANS, plan_name
from oodbench.store.running.heartbeats import Beat, Failure, beats_and_failures

if TYPE_CHECKING:
    from oodbench.flow.bench import Bench
    from oodbench.flow.plan import Job
    from oodbench.store.store import Store

STAGES = ("fit", "measure", "score", "run")
#: What the stages are called where they are counted.
NAMES = {"fit": "fits", "measure": "measurements", "score": "scores", "run": "runs"}


class State(Enum):
    """Of a step: its entry is there; somebody is at it; it waits; it failed; it waits for such."""

    DONE, RUNNING, WAITING, FAILED, HELD_UP = "done", "running", "waiting", "failed", "held up"


@dataclass(frozen=True)
class PlannedStep:
    """A step as a plan in the store names it."""

    key: str
    stage: str
    text: str
    needs: tuple[str, ...]
    also: tuple[str, ...]
    seconds: float


@dataclass
class Status:
    """The state of every step of a plan, `there` counted by stage, and who is at what.

    `refused`: what could not even be planned, with the reason.
    """

    steps: list[PlannedStep]
    states: Mapping[str, State]
    beats: Mapping[str, Beat]
    failures: Mapping[str, Failure]
    there: Mapping[str, int] = field(default_factory=dict)
    refused: Sequence[tuple[str, str]] = ()

    @property
    def over(self) -> bool:
        """Whether nothing waits and nothing runs."""
        going = (State.RUNNING, State.WAITING)
        return not any(state in going for state in self.states.values())

    def count(self, state: State, stage: str = "") -> int:
        """How many steps, of a stage or of all, are in a state."""
        done = state is State.DONE
        known = sum(self.there.get(s, 0) for s in STAGES if stage in ("", s)) if done else 0
        return known + sum(
            self.states[step.key] is state for step in self.steps if stage in ("", step.stage)
        )


def status(store: Store, jobs: Sequence[Job], bench: Bench | None = None) -> Status:
    """How far the plan of these jobs is.

    The plan that `oodbench run` left in the store; where there is none it is made of the images
    that the `bench` finds.  StoreError where neither can be had.
    """
    body = _stored_plan(store, jobs)
    if body is None:
        body = _made_plan(store, jobs, bench)
    there = cast("list[tuple[str, str]]", body["there"])
    steps = [_step(row) for row in cast("list[list[Any]]", body["steps"])]
    recorded = {stage: store.storage.recorded(stage) for stage in STAGES}
    beats, failures = beats_and_failures(store.storage)
    counted: dict[str, int] = {}
    lost = [(key, stage) for key, stage in there if key not in recorded[stage]]
    for key, stage in there:
        counted[stage] = counted.get(stage, 0) + (key in recorded[stage])
    steps += [PlannedStep(key, stage, f"{stage} {key[:12]}", (), (), 0.0) for key, stage in lost]
    states = _states(steps, recorded, beats, failures)
    refused = cast("list[tuple[str, str]]", body["failures"])
    return Status(steps, states, beats, failures, counted, [(a, b) for a, b in refused])


def _step(row: Sequence[Any]) -> PlannedStep:
    key, stage, text, needs, also, seconds = row
    return PlannedStep(str(key), str(stage), str(text), tuple(needs), tuple(also), float(seconds))


def _stored_plan(store: Store, jobs: Sequence[Job]) -> Mapping[str, object] | None:
    data = store.storage.read(f"{PLANS}/{plan_name(jobs)}.json")
    try:
        return None if data is None else cast("Mapping[str, object]", json.loads(data))
    except ValueError:
        return None


def _made_plan(store: Store, jobs: Sequence[Job], bench: Bench | None) -> Mapping[str, object]:
    from oodbench.flow.executors.graph import plan
    from oodbench.flow.executors.planned import plan_body

    advice = (
        f"{store.storage.location} holds no plan of this; `oodbench run` with the same options and"
        " --jobs or --executor ray leaves one"
    )
    if bench is None:
        raise StoreError(advice)
    graph = plan(bench, jobs)
    if not graph.runs:
        failure: OodbenchError = graph.failures[0][1]
        raise StoreError(f"{advice}; and it cannot be made here: {failure}")
    return cast("Mapping[str, object]", json.loads(json.dumps(plan_body(jobs, graph))))


def _states(
    steps: Sequence[PlannedStep], recorded: Mapping[str, set[str]], beats: Mapping[str, Beat],
    failures: Mapping[str, Failure],
) -> dict[str, State]:  # fmt: skip
    states: dict[str, State] = {}
    stages = {step.key: step.stage for step in steps}

    def done(step: PlannedStep) -> bool:
        return step.key in recorded[step.stage] and all(
            key in recorded["measure"] for key in step.also
        )

    for step in steps:
        at = [beats[key] for key in (step.key, *step.also) if key in beats]
        if done(step):
            states[step.key] = State.DONE
        elif any(beat.fresh for beat in at):
            states[step.key] = State.RUNNING
        elif any(key in failures for key in (step.key, *step.also)):
            states[step.key] = State.FAILED
        else:
            states[step.key] = State.WAITING
    stuck = {key for key, state in states.items() if state is State.FAILED}
    changed = True
    while changed and stuck:
        changed = False
        for step in steps:
            waits = states[step.key] is State.WAITING
            if waits and any(n in stuck for n in step.needs if n in stages):
                states[step.key] = State.HELD_UP
                stuck.add(step.key)
                changed = True
    return states


def lines(found: Status) -> list[str]:
    """What `oodbench status` prints: a table of counts, what runs, what failed, when it is done."""
    wanted = [state for state in State if state in (State.DONE, State.RUNNING, State.WAITING)
              or found.count(state)]  # fmt: skip
    rows = [["", *(state.value for state in wanted), "of"]]
    for stage in STAGES:
        counts = [found.count(state, stage) for state in wanted]
        if sum(counts):
            rows.append([NAMES[stage], *(f"{count:,}" for count in counts), f"{sum(counts):,}"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    out = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:],
        strict=True))]).rstrip()
        for row in rows
    ]  # fmt: skip
    by_key = {step.key: step for step in found.steps}
    running = [k for k, state in found.states.items() if state is State.RUNNING]
    for key in running:
        beats = [found.beats[k] for k in (key, *by_key[key].also) if k in found.beats]
        out.append(f"running: {beat_line(max(beats, key=lambda beat: beat.at))}")
    for key, state in found.states.items():
        if state is State.FAILED:
            keys = (key, *by_key[key].also)
            failure = next(found.failures[k] for k in keys if k in found.failures)
            out.append(f"failed: {failure.text}: {failure.why} ({failure.host})")
    out += [f"cannot be planned: {label}: {reason}" for label, reason in found.refused]
    out.append(_summary(found, running))
    return out


def _summary(found: Status, running: Sequence[str]) -> str:
    if found.over:
        broken = found.count(State.FAILED) or found.refused
        return "all that can be made is made" if broken else "all is made"
    waiting = sum(s.seconds for s in found.steps if found.states[s.key] is State.WAITING)
    known = [found.beats[k].left for k in running if k in found.beats]
    going = [left for left in known if left is not None]
    if not running:
        return f"nothing runs; about {duration(waiting)} of work waits"
    left = (waiting + sum(going)) / len(running)
    left = max(left, *going) if going else left
    return f"about {duration(left)} left with {len(running)} at work"
