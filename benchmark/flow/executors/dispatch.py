"""Handing the steps of a graph to a crew: what is ready and most urgent first, each once.

A crew is a number of workers, on this machine or on many.  A step whose worker died is tried again,
elsewhere if it can be, a bounded number of times; one that cannot be made leaves out what waits for
it and nothing else.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from oodbench.errors import OodbenchError
from oodbench.interruption import held, pending, stop
from oodbench.store.running.heartbeats import clear_beat, note_failure

if TYPE_CHECKING:
    from oodbench.flow.executors.board import Board
    from oodbench.flow.executors.graph import Graph
    from oodbench.flow.executors.steps import Step
    from oodbench.store.storage import Storage

#: How often a step is tried whose worker died, or whose disk was full.
ATTEMPTS = 4
#: Seconds before a step is asked for again that somebody else is making.
BUSY_SECONDS = 3.0
#: Seconds between two looks at signals where nothing ends.
LOOK_SECONDS = 0.5


class Verdict(Enum):
    """How a step ended: made; cannot be made; its worker died; its disk failed; is made elsewhere.

    STOPPED: it was asked to save and stop.
    """

    MADE, FAILED, LOST, TROUBLED, BUSY, STOPPED = range(6)


@dataclass(frozen=True)
class Done:
    """A step that has ended: how, why, where, and what it had to say."""

    step: Step
    verdict: Verdict
    why: str = ""
    where: str = ""
    said: Sequence[str] = ()


class Crew(Protocol):
    """Workers that make steps; what they have to say under way goes to `tell`."""

    tell: Callable[[str], None]

    def begin(self, step: Step, avoided: Sequence[str] = ()) -> bool:
        """Start a step where there is room for it, elsewhere than in `avoided` if it can be."""

    def ended(self, seconds: float) -> list[Done]:
        """What has ended by now, or within so many seconds."""

    def slots(self) -> int:
        """How many steps can run at once."""

    def stop(self) -> list[Done]:
        """Ask all steps to save and stop, and wait until they have."""

    def close(self) -> None:
        """End all workers, whatever they do."""


class FailedStepError(OodbenchError):
    """A step that could not be made, and why."""

    def __init__(self, step: Step, why: str, waiting: int) -> None:
        also = f" (with {waiting} more that wait for it)" if waiting else ""
        super().__init__(f"{step.text}: {why}{also}")
        self.step, self.why, self.waiting = step, why, waiting


@dataclass
class Dispatched:
    """What was made of a graph: keys, and failures in the order in which they came."""

    made: set[str] = field(default_factory=set)
    failures: list[FailedStepError] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def dispatch(graph: Graph, crew: Crew, board: Board, storage: Storage) -> Dispatched:
    """Make all steps that can be made.

    Raises `oodbench.interruption.Interrupted` once everything is saved where a signal asks to stop.
    """
    return _Dispatch(graph, crew, board, storage).run()


class _Dispatch:
    def __init__(self, graph: Graph, crew: Crew, board: Board, storage: Storage) -> None:
        self.graph, self.crew, self.board, self.storage = graph, crew, board, storage
        self.out = Dispatched()
        self.waiting = graph.dependents()
        self.left = {key: len(step.needs) for key, step in graph.steps.items()}
        order = {key: number for number, key in enumerate(graph.steps)}
        urgency = graph.urgency()
        self.rank: Mapping[str, tuple[float, int, int]] = {
            key: (-urgency[key], step.job.rank, order[key]) for key, step in graph.steps.items()
        }
        self.ready: list[tuple[tuple[float, int, int], str]] = []
        self.later: list[tuple[float, str]] = []
        self.attempts: dict[str, int] = {}
        self.avoided: dict[str, list[str]] = {}
        self.began: dict[str, float] = {}
        self.dropped: set[str] = set()
        for key, count in self.left.items():
            if not count:
                self._queue(key)

    def run(self) -> Dispatched:
        try:
            return self._run()
        except KeyboardInterrupt:  # of a notebook, where no signal is waited for
            self.crew.stop()
            raise

    def _run(self) -> Dispatched:
        total = len(self.graph.steps)
        with held():
            while len(self.out.made) + len(self.dropped) < total:
                self._wake()
                self._start()
                self.board.show(self.began, self.out.made, self.crew.slots())
                for done in self.crew.ended(LOOK_SECONDS):
                    self._take(done)
                if pending():
                    for done in self.crew.stop():
                        self._take(done)
                    where = f"{len(self.out.made)} of {total} steps are made"
                    stop(f"running: {where}, what was running is saved")
        return self.out

    def _queue(self, key: str) -> None:
        heapq.heappush(self.ready, (self.rank[key], key))

    def _wake(self) -> None:
        now = time.monotonic()
        while self.later and self.later[0][0] <= now:
            self._queue(heapq.heappop(self.later)[1])

    def _start(self) -> None:
        """Begin what there is room for; a step that finds none lets others go first."""
        passed: list[tuple[tuple[float, int, int], str]] = []
        refused: set[bool] = set()
        while self.ready and len(refused) < 2:
            place, key = heapq.heappop(self.ready)
            step = self.graph.steps[key]
            kind = per_fit(step)
            if kind in refused:
                passed.append((place, key))
            elif self.crew.begin(step, self.avoided.get(key, ())):
                self.began[key] = time.time()
            else:
                passed.append((place, key))
                refused.add(kind)
        for one in passed:
            heapq.heappush(self.ready, one)

    def _take(self, done: Done) -> None:
        key = done.step.key
        step = self.graph.steps[key]
        for line in done.said:
            self.board.say(line)
        began = self.began.pop(key, time.time())
        if done.verdict is Verdict.MADE:
            self.out.made.add(key)
            self.out.seconds[key] = time.time() - began
            self.board.note(step, self.out.seconds[key])
            for other in self.waiting[key]:
                self.left[other] -= 1
                if not self.left[other] and other not in self.dropped:
                    self._queue(other)
        elif done.verdict is Verdict.BUSY:
            heapq.heappush(self.later, (time.monotonic() + BUSY_SECONDS, key))
        elif done.verdict is Verdict.STOPPED:
            self._queue(key)
        elif done.verdict is Verdict.FAILED:
            self._fail(step, done.why)
        else:
            self._again(step, done)

    def _again(self, step: Step, done: Done) -> None:
        count = self.attempts[step.key] = self.attempts.get(step.key, 0) + 1
        if done.verdict is Verdict.LOST:
            clear_beat(self.storage, step.key)
        if done.where:
            self.avoided.setdefault(step.key, []).append(done.where)
        if count >= ATTEMPTS:
            self._fail(step, f"{done.why}, {count} times")
            return
        self.board.say(f"{step.text}: {done.why}; it is tried again")
        pause = 0.2 * 4**count if done.verdict is Verdict.TROUBLED else 0.0
        heapq.heappush(self.later, (time.monotonic() + pause, step.key))

    def _fail(self, step: Step, why: str) -> None:
        """Give a step up, and what waits for it."""
        gone = [step.key]
        for key in gone:  # grows while it is gone through
            gone += [k for k in self.waiting[key] if k not in self.dropped and k not in gone]
        fresh = [key for key in gone if key not in self.dropped]
        self.dropped.update(fresh)
        failure = FailedStepError(step, why, len(fresh) - 1)
        self.out.failures.append(failure)
        note_failure(self.storage, step.stage, step.key, step.text, why)
        self.board.say(f"failed: {failure}")


def per_fit(step: Step) -> bool:
    """Whether a step takes what a fit is given: it trains or measures, or scores with models."""
    return step.gpu or step.stage in ("fit", "measure")
