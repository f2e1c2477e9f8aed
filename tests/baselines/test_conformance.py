"""Every built-in detector passes the conformance suite that third parties are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

import oodbench
from oodbench.detect.detector import DETECTORS
from oodbench.store.store import Store
from oodbench.testing import check_detector

BUILT_IN = [
    name for name in DETECTORS.names()
    if DETECTORS.get(name).__module__.startswith("oodbench.baselines.")
]  # fmt: skip


#: Grey waves and noise are alike to a Bernoulli likelihood; digits and photographs are not.
SIGN_BY_DIGITS = {"rst-plain-vae", "rst-prefit", "rst-vae"}
#: Classifiers may be sure of noise of high contrast; test_label_runs.py tests the sign.
SURE_OF_CONTRAST = {
    "ash", "deep-ensemble", "energy", "entropy-softmax", "grad-norm", "max-logit", "max-softmax",
    "odin", "odin-tuned", "odin-validated", "react", "relative-mahalanobis",
}  # fmt: skip
#: Distances ask the backbone alone, so that its modules are counted more often than the last layer.
UNCOUNTED = {"mahalanobis-tuned", "mahalanobis-validated"}


@pytest.fixture(scope="session")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Fits of recipes, shared by the detectors on them."""
    return Store(tmp_path_factory.mktemp("fits"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_conformance(name: str, fits: Store) -> None:
    results = {result.check.name: result for result in check_detector(name, fits=fits)}
    for check, exempt in (
        ("cost", UNCOUNTED),
        ("orientation", SIGN_BY_DIGITS | SURE_OF_CONTRAST),
    ):
        expected = "not applicable" if name in exempt else "passed"
        assert results[check].status == expected, results[check].seen


def test_the_sign_that_noise_does_not_settle(trained: Path) -> None:
    """A model of digits finds patches of photographs less likely, whatever its witness."""
    found = oodbench.run(
        "digits-photos", sorted(SIGN_BY_DIGITS), scale="smoke", store=trained, quiet=True
    )
    auroc = found[found["metric"] == "auroc"].set_index("detector")["value"]
    assert len(auroc) == len(SIGN_BY_DIGITS)
    assert (auroc > 90).all(), auroc
