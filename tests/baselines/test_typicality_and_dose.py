"""Scores that compare with training images: formulas, another library, two-sidedness, real runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.svm import OneClassSVM

from oodbench.baselines.dose import DoSE, KernelDensity, features
from oodbench.baselines.kl_typicality import KLTypicality
from oodbench.baselines.typicality import TypicalityGlow
from oodbench.rank.metrics import auroc
from oodbench.store.store import Store


def test_typicality_is_two_sided() -> None:
    detector = TypicalityGlow()
    detector.calibrate({"log_prob": np.array([-90.0, -110.0])})
    values = detector.scores({"log_prob": np.array([-100.0, -60.0, -130.0])})["typicality"]
    np.testing.assert_allclose(values, [0.0, 40.0, 30.0])


def test_kernel_density_against_scipy() -> None:
    generator = np.random.default_rng(0)
    training = np.concatenate([generator.normal(-1, 0.3, 400), generator.normal(1, 0.5, 600)])
    density = KernelDensity(training)
    points = np.linspace(training.min() - 0.2, training.max() + 0.2, 500)
    expected = gaussian_kde(training, bw_method="scott").logpdf(points)
    np.testing.assert_allclose(density(points), expected, atol=2e-3)
    # Far outside it falls on and on, without a floor and without a jump.
    far = training.max() + np.linspace(0, 40, 2000)
    values = density(far)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


def statistics(n: int, shift: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    kl = generator.gamma(5, 2, (n, 2))
    nll = generator.normal(1000 + shift, 30, (n, 2))
    return {"elbo": -nll[:, 0] - kl.sum(1), "nll": nll, "kl_0": kl, "kl_1": kl}


@pytest.mark.parametrize("shift", [-200.0, 200.0])
def test_dose_finds_what_is_untypical_on_either_side(shift: float) -> None:
    detector = DoSE()
    detector.calibrate(statistics(500))
    inside = detector.scores(statistics(100, seed=1))
    outside = detector.scores(statistics(100, shift, seed=2))
    for name in detector.score_names():
        assert np.median(outside[name]) > np.quantile(inside[name], 0.95)


def test_dose_sums_independent_log_densities() -> None:
    training, test = statistics(300), statistics(40, seed=3)
    detector = DoSE()
    detector.calibrate(training)
    raw, points = features(training), features(test)
    total = np.zeros(40)
    for column, values in zip(raw.T, points.T, strict=True):
        standard = (column - column.mean()) / column.std()
        total -= gaussian_kde(standard, bw_method="scott").logpdf(
            (values - column.mean()) / column.std()
        )
    found = detector.scores(test)["DoSE-KDE"]
    np.testing.assert_allclose(found, total, rtol=0.02, atol=0.05)


def test_the_svm_ranks_as_scikit_learn_s_and_goes_on_where_that_one_rounds() -> None:
    training, test = statistics(300), statistics(200, seed=3)
    detector = DoSE()
    detector.calibrate(training)
    raw = features(training)
    mean, spread = raw.mean(0), raw.std(0)
    svm = OneClassSVM(kernel="rbf", gamma="scale", nu=0.5).fit((raw - mean) / spread)
    decision = svm.decision_function((features(test) - mean) / spread)
    found = detector.scores(test)["DoSE-SVM"]
    np.testing.assert_allclose(np.exp(-found), decision - svm.intercept_, rtol=1e-9)
    far = [detector.scores(statistics(1, shift))["DoSE-SVM"][0] for shift in (3e3, 1e4, 1e5, 1e6)]
    assert np.all(np.diff(far) > 0)
    assert far[0] > found.max()


def test_kl_typicality_by_hand() -> None:
    rng = np.random.default_rng(3)
    train, test = rng.gamma(2, 5, (200, 3)), rng.gamma(2, 5, (7, 3))
    detector = KLTypicality()
    detector.calibrate({"kl_0": train})
    found = detector.scores({"kl_0": test})
    for row, kl in enumerate(test):
        total = sum(kl) - sum(map(sum, train)) / 200
        assert found["KL typicality"][row] == pytest.approx(abs(total))
        layers = 0.0
        for layer in range(3):
            column = [float(v) for v in train[:, layer]]
            mean = sum(column) / 200
            variance = sum((v - mean) ** 2 for v in column) / 200
            layers += (kl[layer] - mean) ** 2 / variance
        assert found["KL layers"][row] == pytest.approx(layers)
    # A layer that is the same for all training images: nothing is divided by 0.
    detector.calibrate({"kl_0": np.tile([1.0, 2.0, 3.0], (5, 1))})
    assert np.isfinite(detector.scores({"kl_0": test})["KL layers"]).all()


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_kl_typicality_is_two_sided(factor: float) -> None:
    """Too little information is found as too much is; the sum alone ranks one of them last."""
    rng = np.random.default_rng(4)
    train, test = rng.normal(30, 3, (400, 3)), rng.normal(30, 3, (300, 3))
    detector = KLTypicality()
    detector.calibrate({"kl_0": train})
    inside, outside = (detector.scores({"kl_0": kl}) for kl in (test, factor * test))
    for name in ("KL typicality", "KL layers"):
        assert auroc(inside[name], outside[name]) > 0.99
    plain = auroc(test.sum(1), factor * test.sum(1))
    assert plain < 0.01 or plain > 0.99


def test_they_share_fit_and_measurement_with_the_plain_detector(
    tmp_path: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    names = ("vanilla-hvae", "typicality-hvae", "dose-hvae")
    options = [text for name in names for text in ("--detector", name)]
    done = command("run", "--pair", "digits-photos", "--scale", "smoke", *options)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "results" / "store")
    assert len(list(store.entries("fit"))) == 1
    # ID test, OOD test, the training images, and as many of them as there are ID test images.
    assert len(list(store.entries("measure"))) == 4
    board = command("leaderboard", "--format", "json")
    rows = {row["score"]: row["metrics"]["auroc"]["value"] for row in json.loads(board.stdout)}
    for name in ("typicality", "DoSE-KDE", "DoSE-SVM"):
        assert rows[name] > 80, rows
