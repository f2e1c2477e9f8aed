"""The DVP-VAE as a detector: what it computes, on digits against patches of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oodbench.baselines.dvp import DVPDetector
from oodbench.datasets.loading import DataPlaces, load
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.flow.measuring.blocks import Measured, measure
from oodbench.progress import Progress
from oodbench.rank.metrics import auroc
from oodbench.train.training import Runtime, train

QUIET = Progress("quiet")
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits to train on, digits and patches of photographs to test on."""
    places = DataPlaces((), tmp_path_factory.mktemp("data"))
    digits = [load("digits", split, places).images for split in ("train", "test")]
    return digits[0], digits[1][:150], load("photos", "test", places).images[:150]


@pytest.fixture(scope="module")
def detector(
    sets: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> DVPDetector:
    found = DVPDetector()
    found.recipe = recipe = resolve(find_recipe("dvp-D"), "smoke", "dvp")
    model, _ = train(
        lambda: recipe.config.build(SHAPE), sets[0], recipe.training, seed=0,
        scratch=tmp_path_factory.mktemp("fit"), runtime=Runtime(), progress=QUIET,
    )  # fmt: skip
    found.attach([model])
    return found


def measured(detector: DVPDetector, images: np.ndarray, folder: Path) -> Measured:
    folder.mkdir()
    return measure(
        detector, images, np.arange(len(images)), seed=0, device="cpu", batch_size=100,
        scratch=folder, progress=QUIET, label="",
    )  # fmt: skip


def test_digits_against_photographs(
    detector: DVPDetector, sets: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    inside = measured(detector, sets[1], tmp_path / "id")
    outside = measured(detector, sets[2], tmp_path / "ood")
    id_scores, ood_scores = (detector.scores(side.statistics) for side in (inside, outside))
    assert list(id_scores) == detector.score_names() == ["L", "LLR>1", "LLR>all", "KL_u"]
    aurocs = {name: auroc(id_scores[name], ood_scores[name]) for name in id_scores}
    # Patches of photographs are far from digits, in their low frequencies already.
    assert aurocs["L"] > 0.95, aurocs
    assert aurocs["KL_u"] > 0.7, aurocs

    found = inside.statistics
    nll, kl = found["nll"], found["kl"]
    assert nll.shape == (150, 3)
    # KL(u) and the groups above k are the same in both bounds, so that they drop out.
    np.testing.assert_allclose(id_scores["LLR>1"], nll[:, 1] - nll[:, 0] - kl[:, 0], atol=1e-6)
    np.testing.assert_allclose(id_scores["LLR>all"], nll[:, 2] - nll[:, 0] - kl.sum(1), atol=1e-6)
    np.testing.assert_allclose(id_scores["L"], nll[:, 0] + kl.sum(1) + found["kl_u"], atol=1e-6)
    # Without the inferred latents the image is explained less well.
    assert nll[:, 0].mean() < nll[:, 1:].mean(0).min()

    report = detector.diagnose(found, inside.totals, SHAPE)
    bits = id_scores["L"].mean() / (64 * np.log(2))
    assert report["bits_per_dim"] == pytest.approx(bits)
    assert report["bits_per_dim_k"][0] == pytest.approx(bits)  # type: ignore[index]
    assert report["llr_nats_k"][2] == pytest.approx(id_scores["LLR>all"].mean())  # type: ignore[index]
    assert report["kl_u_nats"] == pytest.approx(found["kl_u"].mean())
    assert [text.split("/")[1] for text in report["active_units"]] == ["32", "8"]  # type: ignore[union-attr]


def test_importance_samples_tighten_the_bound(
    detector: DVPDetector, sets: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    import torch

    from oodbench.seeding import KeyedNoise

    one = measured(detector, sets[1][:60], tmp_path / "one").statistics
    recipe = detector.recipe
    assert recipe is not None
    more = recipe.measure.model_copy(update={"importance_samples": 20})
    before = recipe.measure
    object.__setattr__(recipe, "measure", more)
    try:
        many = measured(detector, sets[1][:60], tmp_path / "many").statistics
    finally:
        object.__setattr__(recipe, "measure", before)
    assert many["elbo"].mean() > one["elbo"].mean() + 1.0
    for name in ("nll", "kl", "kl_u"):
        np.testing.assert_array_equal(many[name], one[name])
    # The same estimate as the model's own.
    images = torch.from_numpy(sets[1][:60].copy())
    own = detector.model.log_prob(images, KeyedNoise(0, np.arange(60)), 20)
    np.testing.assert_allclose(many["elbo"], own.numpy(), rtol=1e-5, atol=1e-3)
