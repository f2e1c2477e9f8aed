"""Running the checks on one detector."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from oodbench.conformance.contract import declarations, finite, other_shapes, returned_types
from oodbench.conformance.invariance import (
    batches,
    fit_repeats,
    measure_repeats,
    score_order,
    seeds,
)
from oodbench.conformance.learning import saved_state, sight, tensors_only
from oodbench.conformance.meaning import cost, orientation, revision
from oodbench.conformance.outcome import Check, Result
from oodbench.conformance.subject import Subject, first_line
from oodbench.conformance.verdicts import NotApplicable, NotConforming, Reminder
from oodbench.errors import OodbenchError
from oodbench.flow.plan import parse_detector
from oodbench.store.store import Store
from oodbench.train.torch_state import own_torch_state

CHECKS: tuple[Check, ...] = (
    declarations, returned_types, finite, fit_repeats, measure_repeats, seeds, batches, score_order,
    saved_state, tensors_only, sight, other_shapes, orientation, cost, revision,
)  # fmt: skip


def run_checks(
    name: str,
    *,
    fits: Store | None = None,
    recorded: Store | None = None,
    checks: Sequence[Check] = CHECKS,
    watcher: Callable[[Check], None] = lambda check: None,
) -> list[Result]:
    """One result per check for the detector ``NAME[@RECIPE]``, in a temporary folder.

    `fits` keeps the trained models of recipes, for other detectors to share; `recorded` is a store
    whose runs the detector's source is compared with; `watcher` is told what is about to run.
    Raises UnknownNameError or PluginError where there is no such detector, and ConfigError where
    its recipe has no smoke scale; what the detector raises later is a failed check.
    """
    request = parse_detector(name)
    if request.scores:
        request = type(request)(request.name, request.recipe)
    with tempfile.TemporaryDirectory(prefix="oodbench-check-") as folder:
        subject = Subject(request, Path(folder), fits, recorded)
        subject.shape  # noqa: B018
        results = []
        for check in checks:
            watcher(check)
            results.append(_result(check, subject))
        return results


def _raised(error: BaseException) -> str:
    """How to mend what was raised and not foreseen: where it was."""
    if isinstance(error, OodbenchError):
        return "do as it says"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"look at {Path(last.filename).name}, line {last.lineno}, which raised it (--verbose shows"
        " the way there)"
    )


def _result(check: Check, subject: Subject) -> Result:
    started = time.monotonic()

    def done() -> float:
        return time.monotonic() - started

    try:
        with own_torch_state():
            seen = check.test(subject)
    except NotApplicable as reason:
        return Result(check, "not applicable", str(reason), seconds=done())
    except Reminder as reminder:
        return Result(check, "reminder", str(reminder), check.mend, seconds=done())
    except NotConforming as fault:
        mend = fault.mend or check.mend
        return Result(check, "failed", str(fault), mend, seconds=done())
    except (Exception, SystemExit) as error:
        trace = "".join(traceback.format_exception(error))
        return Result(check, "failed", first_line(error), _raised(error), trace, done())
    return Result(check, "passed", seen, seconds=done())
