"""The mixture teacher against scikit-learn, and the loss of a model that has a witness."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch import Tensor

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import find_places, load
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.models.hierarchical.config import HVAEConfig, TeacherSettings
from oodbench.models.hierarchical.hvae import HVAE
from oodbench.models.hierarchical.posterior_collapse import active_units
from oodbench.models.hierarchical.simplex_witness import teacher_energy, teacher_information
from oodbench.models.hierarchical.witness_teacher import Teacher

SHAPE = (1, 8, 8)
SETTINGS = TeacherSettings(components=4, pca=6, restarts=2, smoothing=0.04)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    images = load("digits", "train", find_places((), "results/store")).images
    return torch.from_numpy(images[:400].copy())


@pytest.fixture(scope="module")
def teacher(digits: Tensor) -> Teacher:
    found = Teacher(SETTINGS, SHAPE)
    found.fit(digits, seed=3)
    return found


def test_the_posterior_is_that_of_the_mixture(teacher: Teacher, digits: Tensor) -> None:
    """Responsibilities recomputed by scikit-learn from the buffers."""
    state = {name: value.numpy() for name, value in teacher.state_dict().items()}
    mixture = GaussianMixture(4)
    mixture.weights_ = torch.tensor(state["log_weights"]).exp().numpy()
    mixture.means_ = state["means"]
    mixture.precisions_cholesky_ = state["precisions"]
    pixels = digits.flatten(1).numpy() / 255.0
    expected = mixture.predict_proba((pixels - state["pixel_mean"]) @ state["axes"].T)
    found = teacher(digits)
    torch.testing.assert_close(found, 0.96 * torch.from_numpy(expected) + 0.01)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found), dtype=torch.float64))
    axes = PCA(6, svd_solver="full").fit(pixels).components_
    torch.testing.assert_close(torch.from_numpy(axes), torch.from_numpy(state["axes"]))


def test_equal_seeds_give_equal_teachers_and_travel_with_the_weights(
    teacher: Teacher, digits: Tensor
) -> None:
    again, other = Teacher(SETTINGS, SHAPE), Teacher(SETTINGS, SHAPE)
    again.fit(digits, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(again.buffers(), teacher.buffers(), strict=True))
    other.load_state_dict(teacher.state_dict())
    assert torch.equal(other(digits), teacher(digits))
    other.fit(digits, seed=4)
    assert not torch.equal(other(digits), teacher(digits))


def test_the_restart_of_most_information_is_kept(digits: Tensor) -> None:
    """Those whose E_T exceeds that of one-hot labels count only where there is no other."""
    teacher = Teacher(TeacherSettings(), SHAPE)
    hard = torch.eye(10, dtype=torch.float64)
    lopsided = hard[[0, 0, 0, 0, 0, 1, 2, 3, 4, 5]]
    torn = 0.5 * (hard + hard.roll(1, 0))
    assert teacher_energy(0.95 * torn + 0.005) > teacher_energy(0.95 * hard + 0.005)
    assert teacher._rank(hard) < teacher._rank(lopsided) < teacher._rank(torn)


def test_too_few_images_are_refused(digits: Tensor) -> None:
    with pytest.raises(ValueError, match="needs as many training images; there are 5"):
        Teacher(SETTINGS, SHAPE).fit(digits[:5], seed=0)


# ---------------------------------------------------------------------- models
def model(digits: Tensor, **witness: JSON) -> HVAE:
    """The smoke recipe on the digits with other settings of its witness."""
    overrides: JSON = {"model": {"objective": {"witness": witness}}}
    recipe = resolve(find_recipe("rst-D"), "smoke", "rst", cast("dict[str, JSON]", overrides))
    torch.manual_seed(0)
    built = cast(HVAE, recipe.build(SHAPE))
    built.prepare(digits, seed=0)
    built.initialise(digits)
    return built


def test_the_loss_is_the_sum_of_its_terms(digits: Tensor) -> None:
    """NLL + α_KL KL + λ_TS L_TS with the same draws."""
    found = model(digits, weight=3.0, kl_weight=2.0)
    torch.manual_seed(5)
    logged = found.loss(digits, epoch=1)
    expected = logged["nll_0"] + 2.0 * logged["kl_1"] + 3.0 * logged["l_ts"]
    torch.testing.assert_close(logged["loss"].double(), expected.double())


def test_the_prefit_goes_to_the_exact_code(digits: Tensor) -> None:
    found = model(digits, prefit_epochs=1)
    optimiser = torch.optim.Adam(found.parameters(), 1e-2)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        logged = found.loss(digits, epoch=1)
        torch.autograd.backward(logged["loss"])
        optimiser.step()
        losses.append(float(logged["l_ts"].detach()))
    witness = found.witness
    assert witness is not None
    information = teacher_information(witness.teacher(digits))
    assert losses[-1] < 0.5 * information < losses[0]


def test_a_vae_forced_to_collapse_is_not_certified(digits: Tensor) -> None:
    """α_KL = 1e4: the mean has nowhere to go, and L_TS ≥ I_T as the theorem says."""
    found = model(digits, weight=0.0, kl_weight=1e4)
    optimiser = torch.optim.Adam(found.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 400)
    for _ in range(400):
        optimiser.zero_grad()
        torch.autograd.backward(found.loss(digits[:64], epoch=1)["loss"])
        optimiser.step()
        schedule.step()
    mean = found.posteriors(digits)[0].mean
    assert active_units(mean) == 0
    witness = found.witness
    assert witness is not None
    target = witness.teacher(digits)
    found_here = witness.certify(target, mean)
    assert found_here.alignment >= found_here.information
    assert not found_here.certified
    constant = mean.mean(0, keepdim=True).expand(len(mean), -1)
    assert not witness.certify(target, constant).certified


def test_a_witness_needs_enough_units() -> None:
    config = HVAEConfig.model_validate({
        "layers": [{"stage": {"kind": "mlp"}, "latent": "d4"}],
        "likelihood": {"kind": "bernoulli"},
        "objective": {"witness": {}},
    })  # fmt: skip
    with pytest.raises(ValueError, match=r"needs .* 9 units; there are 4"):
        config.build(SHAPE)


def test_settings_without_a_witness_keep_their_keys() -> None:
    settings = HVAEConfig.model_validate({
        "layers": [{"stage": {"kind": "mlp"}, "latent": "d4"}], "likelihood": {"kind": "bernoulli"},
    }).model_dump(mode="json")  # fmt: skip
    assert "witness" not in settings["objective"]
    assert "dims" not in settings
