"""Several processes of this machine that make the steps of one plan: ``--jobs N``.

Each is a process of its own with its own number of threads.  One that is killed takes its step with
it and nothing else: another takes its place, and the step goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

from oodbench.errors import OodbenchError
from oodbench.flow.executors.crews.messages import Setup, step_message
from oodbench.flow.executors.crews.working import read_ending
from oodbench.flow.executors.dispatch import Done, Verdict

if TYPE_CHECKING:
    from oodbench.flow.executors.steps import Step

#: Seconds that workers have to save and stop.
GRACE_SECONDS = 120.0
#: Libraries that start threads of their own, and the variables that tell them how many.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: How often in a row a worker may die before it has made anything.
STILLBORN = 3


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    step: Step | None = None
    rest: bytes = b""
    ready: bool = False


class Processes:
    """A crew (`oodbench.flow.executors.dispatch.Crew`) of `count` processes of this machine."""

    def __init__(self, setup: Setup, count: int, tell: Callable[[str], None]) -> None:
        self.setup, self.count, self.tell = setup, count, tell
        self.workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._stillborn = 0

    def slots(self) -> int:
        """How many processes there are."""
        return self.count

    def begin(self, step: Step, avoided: Sequence[str] = ()) -> bool:
        """Give a step to a process that has none; all are on this machine, whatever is avoided."""
        worker = next((w for w in self.workers if w.step is None), None)
        if worker is None:
            if len(self.workers) >= self.count:
                return False
            worker = self._hire()
        worker.step = step
        # A worker that has died by now is told of when its pipe is read.
        with contextlib.suppress(BrokenPipeError):
            self._send(worker, step_message(step))
        return True

    def ended(self, seconds: float) -> list[Done]:
        """Ends that the processes tell, and the steps of such as are gone."""
        found: list[Done] = []
        for key, _ in self._selector.select(seconds):
            worker: _Worker = key.data
            assert worker.process.stdout is not None
            data = os.read(worker.process.stdout.fileno(), 1 << 16)
            if not data:
                found += self._bury(worker)
                continue
            *lines, worker.rest = (worker.rest + data).split(b"\n")
            for line in lines:
                found += self._told(worker, line.decode())
        return found

    def stop(self) -> list[Done]:
        """One SIGTERM to each, and what they say until they are gone."""
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)
        found: list[Done] = []
        until = time.monotonic() + GRACE_SECONDS
        while self.workers and time.monotonic() < until:
            found += self.ended(0.2)
        return found

    def close(self) -> None:
        """No more steps; a process that still has one is killed."""
        for worker in self.workers:
            assert worker.process.stdin is not None
            if worker.step is not None:
                worker.process.kill()
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.close()
        for worker in self.workers:
            self._selector.unregister(self._stdout(worker))
            try:
                worker.process.wait(10)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            self._stdout(worker).close()
        self.workers.clear()
        self._selector.close()

    def _hire(self) -> _Worker:
        threads = {name: str(self.setup.threads) for name in THREAD_VARIABLES}
        process = subprocess.Popen(
            [sys.executable, "-m", "oodbench.flow.executors.crews.process_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | threads,
            start_new_session=True,  # Ctrl-C is the parent's, which tells each once
        )
        worker = _Worker(process)
        self.workers.append(worker)
        self._selector.register(self._stdout(worker), selectors.EVENT_READ, worker)
        with contextlib.suppress(BrokenPipeError):
            self._send(worker, self.setup.message())
        return worker

    @staticmethod
    def _stdout(worker: _Worker) -> IO[bytes]:
        assert worker.process.stdout is not None
        return worker.process.stdout

    @staticmethod
    def _send(worker: _Worker, line: str) -> None:
        assert worker.process.stdin is not None
        worker.process.stdin.write(line.encode() + b"\n")
        worker.process.stdin.flush()

    def _told(self, worker: _Worker, line: str) -> list[Done]:
        read = json.loads(line)
        if "refused" in read:
            raise OodbenchError(str(read["refused"]))
        if "say" in read:
            self.tell(str(read["say"]))
            return []
        if "ready" in read or worker.step is None:
            worker.ready = True
            return []
        self._stillborn = 0
        done, worker.step = read_ending(worker.step, line), None
        return [replace(done, where="")]  # there is no other machine to take

    def _bury(self, worker: _Worker) -> list[Done]:
        """A process that is gone, and what it was at."""
        self._selector.unregister(self._stdout(worker))
        status = worker.process.wait()
        self._stdout(worker).close()
        self.workers.remove(worker)
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= STILLBORN:
                raise OodbenchError(
                    f"worker processes end with status {status} before they begin; what they wrote"
                    " stands above"
                )
        if worker.step is None:
            return []
        number = -status if status < 0 else 0
        how = signal.Signals(number).name if number else f"status {status}"
        why = f"its process {worker.process.pid} was ended by {how}"
        return [Done(worker.step, Verdict.LOST, why)]
