"""The detectors on hierarchical VAEs, trained on a tiny set: they separate, with the right sign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from on_digits import learned

from oodbench.baselines.scores import hierarchical_scores
from oodbench.datasets.loading import DataPlaces, load
from oodbench.detect.detector import Detector
from oodbench.flow.measuring.blocks import Measured, measure
from oodbench.progress import Progress
from oodbench.rank.metrics import auroc

QUIET = Progress("quiet")
TOP_DOWN = ("lvae", "informative-lvae", "biva", "informative-biva")
NAMES = ("vanilla-hvae", "hvae", "informative-hvae", *TOP_DOWN)


def measured(detector: Detector, images: np.ndarray, folder: Path) -> Measured:
    folder.mkdir()
    return measure(
        detector, images, np.arange(len(images)), seed=0, device="cpu", batch_size=100,
        scratch=folder, progress=QUIET, label="",
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_digits_against_photographs(name: str, trained: Path, tmp_path: Path) -> None:
    places = DataPlaces((), tmp_path / "data")
    digits = load("digits", "test", places).images
    photos = load("photos", "test", places).images[:500]
    detector = learned(name, trained)
    inside = measured(detector, digits, tmp_path / "id")
    outside = measured(detector, photos, tmp_path / "ood")
    id_scores, ood_scores = detector.scores(inside.statistics), detector.scores(outside.statistics)
    assert list(id_scores) == detector.score_names()
    assert ("KL>1" in id_scores) == (name in TOP_DOWN)
    aurocs = {score: auroc(id_scores[score], ood_scores[score]) for score in id_scores}
    # Patches of photographs are far from digits: the bound itself must say so, and with its sign.
    assert aurocs["L"] > 0.95, aurocs
    assert aurocs["L>1"] > 0.95, aurocs

    if name in TOP_DOWN:
        reverse = inside.statistics["reverse_kl"]
        assert (reverse[:, 0] == 0).all()
        np.testing.assert_array_equal(id_scores["KL>1"], reverse[:, 1])

    report = detector.diagnose(inside.statistics, inside.totals, (1, 8, 8))
    nll, kl = inside.statistics["nll"], inside.statistics["kl_0"]
    bits = (nll[:, 0] + kl.sum(1)).mean() / (64 * np.log(2))
    assert report["bits_per_dim"] == pytest.approx(bits, rel=1e-6)
    assert 0 < float(report["bits_per_dim"]) < 8  # type: ignore[arg-type]
    assert report["images"] == 500
    for layer, text in enumerate(report["active_units"], start=1):  # type: ignore[arg-type]
        active, units = map(int, str(text).split("/"))
        total, square = inside.totals[f"mean_{layer}"], inside.totals[f"square_{layer}"]
        assert units == total.size
        assert active == int((square / 500 - (total / 500) ** 2 > 0.01).sum())


def test_importance_samples_tighten_the_bound(trained: Path, tmp_path: Path) -> None:
    images = load("digits", "train", DataPlaces((), tmp_path / "data")).images[:300]
    detector = learned("vanilla-hvae", trained)
    one = measured(detector, images[:60], tmp_path / "one").statistics
    assert detector.recipe is not None
    many = detector.recipe.measure.model_copy(update={"importance_samples": 32})
    object.__setattr__(detector.recipe, "measure", many)
    better = measured(detector, images[:60], tmp_path / "many").statistics
    assert better["elbo"].mean() > one["elbo"].mean()
    np.testing.assert_array_equal(better["nll"], one["nll"])
    scores = hierarchical_scores(better["elbo"], better["nll"], np.stack(
        [better["kl_0"], better["kl_1"]], axis=1))  # fmt: skip
    np.testing.assert_allclose(scores["L"], -better["elbo"])
