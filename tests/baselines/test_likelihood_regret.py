"""Likelihood regret: batched refitting equals the one-image loop; the bound rises; the sign."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench.baselines import likelihood_regret
from oodbench.baselines.likelihood_regret import refit_encoders, refit_posterior
from oodbench.datasets.loading import DataPlaces, load
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.declare.settings import Refit
from oodbench.detect.detector import DETECTORS
from oodbench.flow.measuring.blocks import measure
from oodbench.models.vae.config import ConvVAEConfig
from oodbench.models.vae.conv_vae import ConvVAE
from oodbench.progress import Progress
from oodbench.rank.metrics import auroc
from oodbench.seeding import KeyedNoise
from oodbench.train.training import Runtime, train

QUIET = Progress("quiet")


@pytest.fixture(scope="module")
def model() -> ConvVAE:
    torch.manual_seed(0)
    built = ConvVAEConfig(latent=5, width=4, levels=2).build((1, 9, 8))
    images = torch.randint(0, 256, (40, 1, 9, 8), dtype=torch.uint8)
    for _ in range(3):
        built.loss(images, 1)  # batch statistics
    return built.eval()


def one_image(
    model: ConvVAE, image: torch.Tensor, settings: Refit, noise: KeyedNoise
) -> tuple[torch.Tensor, torch.Tensor]:
    """The published loop: a copy of the encoder, a batch of one, autograd on everything."""
    own = copy.deepcopy(model)
    with torch.no_grad():
        free = [part.clone().requires_grad_() for part in own.encoder(image.float() / 255.0)]
    moved = list(own.encoder.parameters()) if settings.what == "encoder" else free
    optimiser = torch.optim.Adam(moved, settings.lr, weight_decay=settings.weight_decay)
    for step in range(settings.steps):
        mean, log_variance = (
            own.encoder(image.float() / 255.0) if settings.what == "encoder" else free
        )
        eps = noise.scope(f"step{step}").normal("z", (5,))
        logits = own.decoder(mean + torch.exp(0.5 * log_variance) * eps).movedim(-1, 1)
        nll = torch.nn.functional.cross_entropy(
            logits, image.movedim(1, -1).long(), reduction="sum"
        )
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
        optimiser.zero_grad()
        (nll + kl).backward()
        optimiser.step()
    with torch.no_grad():
        mean, log_variance = (
            own.encoder(image.float() / 255.0) if settings.what == "encoder" else free
        )
    return mean.detach(), log_variance.detach()


@pytest.mark.parametrize("what", ["encoder", "posterior"])
def test_the_batch_moves_as_every_image_would_alone(
    model: ConvVAE, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood_regret, "ENCODERS_AT_ONCE", 2)
    images = torch.randint(0, 256, (5, 1, 9, 8), dtype=torch.uint8)
    settings = Refit.model_validate({"what": what, "steps": 12, "lr": 3e-3, "weight_decay": 1e-3})
    noise = KeyedNoise(3, np.arange(5))
    refit = refit_encoders if what == "encoder" else refit_posterior
    batched = refit(model, images, settings, noise)
    with torch.no_grad():
        start = model.posterior(images)
    assert (batched.mean - start.mean).abs().max() > 1e-3
    for row in range(5):
        alone = slice(row, row + 1)
        mean, log_variance = one_image(model, images[alone], settings, noise.rows(alone))
        torch.testing.assert_close(batched.mean[alone], mean, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(
            batched.scale[alone], torch.exp(0.5 * log_variance), atol=1e-4, rtol=1e-3
        )


def test_the_model_is_left_as_it_was(model: ConvVAE) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randint(0, 256, (2, 1, 9, 8), dtype=torch.uint8)
    refit_encoders(model, images, Refit(steps=2), KeyedNoise(0, np.arange(2)))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


@pytest.mark.parametrize("name", ["likelihood-regret", "likelihood-regret-z"])
def test_unseen_images_gain_more(name: str, tmp_path: Path) -> None:
    places = DataPlaces((), tmp_path / "data")
    digits = [load("digits", split, places).images for split in ("train", "test")]
    photos = load("photos", "test", places).images
    detector = DETECTORS.get(name)()
    rate = 1e-3 if name == "likelihood-regret" else 5e-2
    recipe = resolve(
        find_recipe("vae-D"), "smoke", detector.recipe_variant,
        {"measure": {"importance_samples": 20, "refit": {"steps": 40, "lr": rate}}},
    )  # fmt: skip
    detector.recipe = recipe
    fitted, _ = train(
        lambda: recipe.build((1, 8, 8)), digits[0], recipe.training, seed=0, scratch=tmp_path,
        runtime=Runtime(), progress=QUIET,
    )  # fmt: skip
    detector.attach([fitted])
    scores = {}
    for side, images in (("id", digits[1]), ("ood", photos)):
        (tmp_path / side).mkdir()
        measured = measure(
            detector, images, np.arange(100), seed=0, device="cpu", batch_size=50,
            scratch=tmp_path / side, progress=QUIET, label="",
        ).statistics  # fmt: skip
        scores[side] = detector.scores(measured)
        assert scores[side]["LRe"].mean() > 0
    assert auroc(scores["id"]["LRe"], scores["ood"]["LRe"]) > 0.8
