"""What a check is, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from oodbench.conformance.subject import Subject

Status = Literal["passed", "failed", "reminder", "not applicable"]


@dataclass(frozen=True)
class Check:
    """One thing that must hold: `asserts` says what, `guards` against what, `mend` how to mend it.

    `test` returns in a few words what it saw, or raises one of the exceptions above; anything else
    that it raises is a failure.
    """

    name: str
    asserts: str
    guards: str
    mend: str
    test: Callable[[Subject], str]


def check(
    name: str, *, asserts: str, guards: str, mend: str
) -> Callable[[Callable[[Subject], str]], Check]:
    """Decorator: the function as the test of a `Check`."""
    return lambda test: Check(name, asserts, guards, mend, test)


@dataclass(frozen=True)
class Result:
    """A check's outcome; `trace` is the traceback of an exception that the detector raised."""

    check: Check
    status: Status
    seen: str
    mend: str = ""
    trace: str = ""
    seconds: float = 0.0
