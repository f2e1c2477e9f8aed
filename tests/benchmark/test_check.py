"""`oodbench check` finds what is wrong with a detector, says what, and blames nothing else."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from oodbench.conformance.outcome import Result
from oodbench.conformance.suite import CHECKS, run_checks
from oodbench.declare.registry import load_plugin
from oodbench.detect.detector import DETECTORS
from oodbench.detect.score_functions import score_function
from oodbench.store.store import Store
from oodbench.testing import check_detector, conformance_checks

PLUGIN = Path(__file__).with_name("wrong_detectors.py")
#: Detector: the check that fails, and no other, and what it says.
FAULTS = {
    "flipped": ("orientation", r"calls noise more normal .* AUROC 0\.0"),
    "flipped-and-declared": ("orientation", "declared|learns what is normal"),
    "batch-dependent": ("batches", r"statistic 'distance' of image \d+ is .* alone"),
    "unseeded": ("fit repeats", "two fits with seed 0 differ in 'mean'"),
    "undeclared-noise": ("measure repeats", r"statistic 'distance' of image \d+ is .*, then"),
    "nan-on-constant": ("finite", "on all black: .*'distance'.* not finite"),
    "peeks-by-loading": ("sees training images only", "fit loads the test split of photos"),
    "peeks-at-files": ("sees training images only", r"fit opens (noise|waves)\.npz"),
    "wrong-shape": ("returned types", r"'distance' of 5 images has shape \(5, 1, 64\)"),
    "half-precision": ("finite", "on all white: .* not finite"),
    "forgets": ("saved state", "a new instance that loads the state: .*mean"),
    "order-dependent": ("score order", r"score '' of image \d+ is .* among all images"),
    "raises": ("returned types", "KeyError: 'no such layer'"),
    "keeps-an-array": ("tensors only", r"state_dict\['mean'\] is ndarray, not a dense tensor"),
    "pickles": ("tensors only", r"fit wrote the pickle mean\.pt"),
    "needless-noise": ("seeds", "asks for noise, but seeds 0 and 1 give equal statistics"),
    "other-cost": ("cost", "1 f are declared, 2 counted"),
    "grey-only": ("other shapes", "distance.* has shape|of size"),
}
#: What a fault brings with it: the checks that fail beside its own.
BESIDES = {
    "undeclared-noise": {"batches"},
    "half-precision": {"other shapes"},
    "forgets": {"orientation"},
    "order-dependent": {"orientation"},
    "keeps-an-array": {"returned types"},
}


@pytest.fixture(autouse=True, scope="module")
def _plugin() -> Iterator[None]:
    known = dict(DETECTORS._objects)
    load_plugin(str(PLUGIN))
    yield
    DETECTORS._objects.clear()
    DETECTORS._objects.update(known)


def failed(results: list[Result]) -> dict[str, Result]:
    return {r.check.name: r for r in results if r.status == "failed"}


def test_a_sound_detector_passes_every_check_that_applies() -> None:
    results = check_detector("sound")
    assert [r.check.name for r in results] == conformance_checks()
    reasons = {r.check.name: r.seen for r in results if r.status != "passed"}
    assert set(reasons) == {"cost", "revision"}
    assert reasons["cost"] == "no cost is declared"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_check_and_by_no_other(name: str) -> None:
    check, message = FAULTS[name]
    found = failed(run_checks(name))
    expected = {check} | BESIDES.get(name, set())
    assert set(found) == expected, {k: r.seen for k, r in found.items()}
    assert re.search(message, found[check].seen), found[check].seen
    assert found[check].mend


def test_ten_faults_at_least() -> None:
    assert len(FAULTS) >= 10
    plugin = DETECTORS.get("sound").__module__
    beside = {n for n in DETECTORS.names() if DETECTORS.get(n).__module__ == plugin}
    assert set(FAULTS) | {"sound", "labelled", "takes-by-position"} == beside


def test_labels_reach_calibrate_as_in_a_run() -> None:
    results = run_checks("labelled")
    assert not failed(results), failed(results)


def test_a_state_taken_by_position_is_sound_and_a_reminder() -> None:
    results = {result.check.name: result for result in run_checks("takes-by-position")}
    assert not failed(list(results.values()))
    saved = results["saved state"]
    assert (saved.status, "by its name" in saved.mend) == ("reminder", True)
    assert "another order" in saved.seen


def test_a_score_function_answers_for_its_own_sign() -> None:
    @score_function("flipped-knn", on="max-softmax")
    def flipped(statistics: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(statistics["logits"].max(1))

    @score_function("excused", on="max-softmax", unoriented="its sign is not settled by noise")
    def excused(statistics: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(statistics["logits"].max(1))

    assert DETECTORS.get("max-softmax").unoriented
    assert DETECTORS.get("flipped-knn").unoriented == {}
    assert DETECTORS.get("excused").unoriented == {"*": "its sign is not settled by noise"}
    first, second = (check_named(name, "orientation") for name in ("flipped-knn", "excused"))
    assert (first.status, second.status) == ("failed", "not applicable")
    assert "its sign is not settled by noise" in second.seen


def check_named(name: str, check: str) -> Result:
    (result,) = run_checks(name, checks=[c for c in CHECKS if c.name == check])
    return result


def test_what_a_detector_raises_is_told_with_its_place() -> None:
    (result,) = failed(run_checks("raises")).values()
    assert "wrong_detectors.py, line" in result.mend
    assert "higher is more OOD" not in result.mend


def test_the_assertion_names_check_fault_and_mend() -> None:
    with pytest.raises(AssertionError, match="'flipped' fails 1 of 1 checks") as caught:
        check_detector("flipped", checks=["orientation"])
    assert "orientation: score 'score' calls noise more normal" in str(caught.value)
    assert "mend: return the score so that higher is more OOD" in str(caught.value)
    with pytest.raises(ValueError, match="unknown checks shape; known: declarations"):
        check_detector("sound", checks=["shape"])


def test_a_changed_source_is_a_reminder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import oodbench

    store = tmp_path / "store"
    oodbench.run("digits-photos", ["sound"], store=str(store), quiet=True)

    def revision() -> Result:
        return check_detector("sound", checks=["revision"], recorded=Store(store))[0]

    assert revision().status == "passed"
    monkeypatch.setattr("oodbench.detect.source_fingerprints.fingerprint", lambda cls: "f" * 64)
    assert revision().status == "reminder"
    assert "'sound'" in revision().seen


Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_command_ends_with_0_1_or_2(command: Command, tmp_path: Path) -> None:
    sound = command("check", "sound", "--plugin", str(PLUGIN))
    assert sound.returncode == 0, sound.stderr
    assert "13 passed, 2 not applicable" in sound.stdout
    wrong = command("check", "raises", "--plugin", str(PLUGIN))
    assert wrong.returncode == 1
    assert "FAILED" in wrong.stdout
    assert "KeyError" in wrong.stdout
    assert "To mend:" in wrong.stdout
    assert "Traceback" not in wrong.stdout + wrong.stderr
    verbose = command("check", "raises", "--plugin", str(PLUGIN), "--verbose")
    assert "Traceback (most recent call last)" in verbose.stdout
    assert "Guards:" in verbose.stdout
    for arguments, message in (
        (["check", "soun", "--plugin", str(PLUGIN)], "unknown detector 'soun'; nearest: sound"),
        (["check", "sound", "--plugin", "none.py"], "no such file"),
        (["check", "mean-intensity", "--store", "none"], "--store none: there is no such folder"),
    ):
        bad = command(*arguments)
        assert bad.returncode == 2
        assert message in bad.stderr
        assert bad.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
