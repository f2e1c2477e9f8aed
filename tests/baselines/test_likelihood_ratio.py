"""Likelihood ratios: the background's mutation, signs, companions that detectors share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch

from oodbench.baselines.likelihood_ratio import GRID, PixelCNNRatioGrid, VAERatio
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.models.classifiers.config import MutationClassifierConfig
from oodbench.seeding import KeyedNoise
from oodbench.store.store import Store
from oodbench.train.batches import mutated


def test_mutation_hits_the_given_share_with_uniform_values() -> None:
    torch.manual_seed(0)
    images = torch.full((200, 1, 20, 20), 7, dtype=torch.uint8)
    found = mutated(images, 0.3)
    changed = found != 7
    # One uniform value in 256 leaves a pixel as it is.
    assert float(changed.double().mean()) == pytest.approx(0.3 * 255 / 256, abs=0.005)
    values = found[changed].double()
    assert float(values.mean()) == pytest.approx(127.5, abs=1.5)
    assert float(values.std()) == pytest.approx(73.9, abs=1.5)
    assert found.dtype == torch.uint8


class Fixed(torch.nn.Module):
    """log p(x) = `level` for every image."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def log_prob(self, images: torch.Tensor, noise: KeyedNoise, samples: int = 1) -> torch.Tensor:
        return torch.full((len(images),), self.level, dtype=torch.float64)


def test_the_score_is_background_minus_foreground() -> None:
    detector = PixelCNNRatioGrid()
    assert len(detector.companions) == len(GRID) == 9
    detector.attach([Fixed(-10.0), *(Fixed(-float(k)) for k in range(9))])
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    measured = detector.measure(images, KeyedNoise(0, np.arange(2)))
    scores = detector.scores({name: value.numpy() for name, value in measured.items()})
    assert [float(scores[name][0]) for name in detector.score_names()] == [
        10.0 - k for k in range(9)
    ]
    assert detector.oracles() == {"best (μ, λ)": detector.score_names()}


def test_a_bound_takes_its_samples_from_the_recipe() -> None:
    detector = VAERatio()
    detector.recipe = resolve(find_recipe("vae-D"), "smoke", "vae")
    detector.attach([Fixed(-1.0), Fixed(-2.0)])
    assert detector.foreground.samples == 2  # type: ignore[attr-defined]


def test_the_classifier_tells_training_images_from_mutated_ones() -> None:
    torch.manual_seed(0)
    model = MutationClassifierConfig(channels=(8, 16)).build((1, 8, 8))
    ramp = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8) * 3
    images = ramp.expand(64, -1, -1, -1)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        out = model.loss(images, 1)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
    assert float(out["accuracy"]) > 0.95
    with torch.no_grad():
        noise = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
        assert float(model.logit(ramp)) > float(model.logit(noise).max())


def test_companions_are_fits_of_their_own(
    trained: Path, command: Callable[..., CompletedProcess[str]]
) -> None:
    names = ("lr-vae", "vae", "lr-bc")
    chosen = [part for name in names for part in ("--detector", name)]
    asked = ("run", "--pair", "digits-photos", "--scale", "smoke", *chosen)
    missing = command(*asked, "--dry-run").stdout
    # `vae` shares the foreground's fit.
    assert sorted(re.findall(r"^fit (.*) \(", missing, re.M)) == [
        f"{name} on digits, seed 0{more}"
        for name, more in (("lr-bc", ""), ("lr-vae", ""), ("lr-vae", ", vae-background"))
    ]
    done = command(*asked, "--store", str(trained))
    assert done.returncode == 0, done.stderr
    fits = Store(trained).entries("fit")
    assert {"lr-bc", "vae", "vae-background"} < {str(entry.record["variant"]) for entry in fits}
    board = command("leaderboard", *chosen, "--format", "json", "--store", str(trained))
    rows = {(row["detector"], row["score"]): row for row in json.loads(board.stdout)}
    # Digits have seventeen grey values; nothing like a photograph: every ratio must say so.
    assert rows["LR (VAE)", "LR"]["metrics"]["auroc"]["value"] > 95
    assert rows["VAE", "L"]["metrics"]["auroc"]["value"] > 95
    assert rows["LR (BC)", ""]["metrics"]["auroc"]["value"] > 50
