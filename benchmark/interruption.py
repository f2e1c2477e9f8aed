"""SIGINT, SIGTERM and a time limit: a write is finished, a loop stops at its next step.

Inside `held` a first signal waits; a loop asks `pending` after each step, saves, and calls
`stop`.  Elsewhere, and on a second signal, the interruption comes at once: every write is atomic,
so nothing is lost but the work since the last checkpoint.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Exit status where the time is over: EX_TEMPFAIL of sysexits.h, "try again".
TIME_IS_OVER = 75


class Interrupted(BaseException):
    """A signal asked to stop; `where` says what was going on and what is kept."""

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(number, where)
        self.number, self.where = number, where

    @property
    def by_time(self) -> bool:
        """Whether `stop_after` asked, not somebody's signal."""
        return self.number == signal.SIGALRM

    @property
    def status(self) -> int:
        """Exit status by convention: 128 + number of the signal (130, 143); 75 by `stop_after`."""
        return TIME_IS_OVER if self.by_time else 128 + self.number


class _Signals:
    """The process's one memory of a signal that waits."""

    def __init__(self) -> None:
        self.depth = 0
        self.waiting: int | None = None

    def arrived(self, number: int, frame: FrameType | None) -> None:
        if self.depth == 0 or self.waiting is not None:
            self.waiting = None
            raise Interrupted(number)
        self.waiting = number

    def deliver(self, where: str = "") -> None:
        if self.waiting is not None:
            number, self.waiting = self.waiting, None
            raise Interrupted(number, where)


_signals = _Signals()


@contextmanager
def listening() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted`, in the main thread; ignored ones stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    try:
        signal.signal(signal.SIGALRM, _signals.arrived)
        for number, handler in before.items():
            if number != signal.SIGALRM and handler not in (signal.SIG_IGN, None):
                signal.signal(number, _signals.arrived)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            if handler is not None:  # None: installed from C, and so left alone above
                signal.signal(number, handler)
        _signals.waiting = None


def stop_after(seconds: float) -> None:
    """Ask to stop once this time is over, as a signal would; needs `listening`."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


@contextmanager
def held() -> Iterator[None]:
    """Let a first signal wait until the block is done."""
    _signals.depth += 1
    try:
        yield
    finally:
        _signals.depth -= 1
    if _signals.depth == 0:
        _signals.deliver()


def pending() -> bool:
    """Whether a signal waits; asked by a loop between its steps, inside `held`."""
    return _signals.waiting is not None


def stop(where: str) -> None:
    """Raise `Interrupted` for the signal that waits; `where` completes "interrupted while …"."""
    _signals.deliver(where)
