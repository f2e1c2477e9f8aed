"""The conformance suite for pytest.

from oodbench.testing import check_detector, conformance_checks

def test_my_detector():
    check_detector("my-detector")

@pytest.mark.parametrize("check", conformance_checks())
def test_one_by_one(check):
    check_detector("my-detector", checks=[check])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from oodbench.conformance.outcome import Check, Result
from oodbench.conformance.suite import CHECKS, run_checks

if TYPE_CHECKING:
    from oodbench.store.store import Store

__all__ = ["check_detector", "conformance_checks"]


def conformance_checks() -> list[str]:
    """Names of all checks, in their order."""
    return [check.name for check in CHECKS]


def check_detector(
    name: str,
    *,
    checks: Sequence[str] | None = None,
    fits: Store | None = None,
    recorded: Store | None = None,
) -> list[Result]:
    """Run the conformance suite on the registered detector `name`, on the CPU.

    AssertionError lists every failed check, what was seen and how to mend it.  `checks` are names
    of `conformance_checks`; ValueError where one is unknown.  `fits` is a store in which detectors
    on one recipe share their fits, `recorded` one with runs to compare the source with.
    """
    chosen: Sequence[Check] = CHECKS
    if checks is not None:
        unknown = sorted(set(checks) - set(conformance_checks()))
        if unknown:
            known = ", ".join(conformance_checks())
            raise ValueError(f"unknown checks {', '.join(unknown)}; known: {known}")
        chosen = [check for check in CHECKS if check.name in checks]
    results = run_checks(name, fits=fits, recorded=recorded, checks=chosen)
    failed = [result for result in results if result.status == "failed"]
    if failed:
        lines = [f"  {r.check.name}: {r.seen}\n    mend: {r.mend}" for r in failed]
        raise AssertionError(
            f"detector {name!r} fails {len(failed)} of {len(results)} checks\n" + "\n".join(lines)
        )
    return results
