"""Scores that compare with training images: formulas, another library, two-sidedness, real runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from scipy.stats import gaussian_kde

from oodbench.baselines.dose import DoSE, KernelDensity, features
from oodbench.baselines.typicality import TypicalityGlow
from oodbench.store import Store


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


def test_they_share_fit_and_measurement_with_the_plain_detector(
    tmp_path: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    names = ("vanilla-hvae", "typicality-hvae", "dose-hvae")
    options = [text for name in names for text in ("--detector", name)]
    done = command("run", "--pair", "digits-photos", "--scale", "smoke", *options)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "results" / "store")
    assert len(list(store.entries("fit"))) == 1
    assert len(list(store.entries("measure"))) == 3  # ID test, OOD test, training subset
    board = command("leaderboard", "--format", "json")
    rows = {row["score"]: row["metrics"]["auroc"]["value"] for row in json.loads(board.stdout)}
    for name in ("typicality", "DoSE-KDE", "DoSE-SVM"):
        assert rows[name] > 80, rows
