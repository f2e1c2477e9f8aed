"""Every built-in detector passes the conformance suite that third parties are held to."""

from __future__ import annotations

import pytest

from oodbench.detector import DETECTORS
from oodbench.store import Store
from oodbench.testing import check_detector

BUILT_IN = [
    name for name in DETECTORS.names()
    if DETECTORS.get(name).__module__.startswith("oodbench.baselines.")
]  # fmt: skip


@pytest.fixture(scope="session")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Fits of recipes, shared by the detectors on them."""
    return Store(tmp_path_factory.mktemp("fits"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_conformance(name: str, fits: Store) -> None:
    results = {result.check.name: result for result in check_detector(name, fits=fits)}
    assert results["cost"].status == "passed", results["cost"].seen
    assert results["orientation"].status == "passed"
