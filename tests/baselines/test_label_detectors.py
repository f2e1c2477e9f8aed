"""Detectors with labels: formulas against other implementations, signs, what they share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.calibration import calibration_curve
from small_classifier import CONV, pixels, random_classifier
from torch.nn import functional as F

from oodbench.baselines import mahalanobis, odin
from oodbench.baselines.classifier import ClassifierDetector
from oodbench.baselines.cp_ood import OutlierClass
from oodbench.baselines.deep_ensemble import DeepEnsemble
from oodbench.baselines.energy import Energy
from oodbench.baselines.entropy_softmax import SoftmaxEntropy
from oodbench.baselines.grad_norm import GradNorm
from oodbench.baselines.latent_mahalanobis import LatentMahalanobis
from oodbench.baselines.max_logit import MaxLogit
from oodbench.baselines.max_softmax import MaxSoftmax
from oodbench.baselines.nearest_neighbours import NearestNeighbours
from oodbench.baselines.odin import ODIN, TunedODIN
from oodbench.baselines.softmax_scores import calibration_error, softmax
from oodbench.baselines.vib import VIB, MixtureVIB
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import DETECTORS, Detector
from oodbench.flow.suites import find_suite
from oodbench.models.classifiers.config import ClassifierConfig, MixtureVIBConfig, VIBConfig
from oodbench.models.classifiers.image_classifier import ImageClassifier
from oodbench.models.vae.config import ConvVAEConfig
from oodbench.seeding import KeyedNoise

LOGITS = np.random.default_rng(0).normal(size=(50, 10)) * 6


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    return random_classifier()


def measured(detector: Detector, images: torch.Tensor) -> dict[str, np.ndarray]:
    """What `measure` gives under the conditions of the runner."""
    with torch.inference_mode():
        out = detector.measure(images.clone())  # type: ignore[call-arg]
    return {name: value.double().numpy() for name, value in out.items()}


def on(detector: ClassifierDetector, model: ImageClassifier, count: int = 12) -> np.ndarray:
    detector.attach([model])
    return detector.score(measured(detector, pixels(count)))


# ---------------------------------------------------------------------- scores of logits
def test_scores_of_logits_are_those_of_scipy() -> None:
    statistics, p = {"logits": LOGITS}, stats.entropy
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    np.testing.assert_allclose(softmax(LOGITS), probabilities, rtol=1e-12)
    np.testing.assert_allclose(MaxSoftmax().score(statistics), 1 - probabilities.max(1), atol=1e-12)
    np.testing.assert_allclose(SoftmaxEntropy().score(statistics), p(probabilities, axis=1))
    np.testing.assert_allclose(Energy().score(statistics), -np.log(np.exp(LOGITS).sum(1)))
    np.testing.assert_allclose(MaxLogit().score(statistics), -LOGITS.max(1))


def test_a_sure_prediction_is_less_ood_than_an_unsure_one() -> None:
    statistics = {"logits": np.array([[9.0, 0.0, 0.0], [1.0, 0.0, 0.0]])}
    for detector in (MaxSoftmax(), SoftmaxEntropy(), Energy(), MaxLogit()):
        sure, unsure = detector.score(statistics)
        assert sure < unsure, detector.name
    outside = {"logits": np.array([[9.0, 0.0, -5.0], [1.0, 0.0, 5.0]])}
    scores = OutlierClass().score(outside)
    assert scores[0] < scores[1]
    np.testing.assert_allclose(stats.logistic.cdf(scores), softmax(outside["logits"])[:, -1])


def test_near_certainty_is_not_rounded_away() -> None:
    low, high = MaxSoftmax().score({"logits": np.array([[60.0, 0.0], [50.0, 0.0]])})
    assert 0 < low < high


# ---------------------------------------------------------------------- steps of the input
def test_odin_moves_the_input_as_autograd_says(model: ImageClassifier) -> None:
    x = (pixels(6).float() / 255).requires_grad_()
    logits = model(x).double() / 1000.0
    F.cross_entropy(logits, logits.argmax(1), reduction="sum").backward()
    assert x.grad is not None
    moved = x.detach() - 0.0014 * x.grad.sign()
    probability = (model(moved).double() / 1000.0).softmax(1).amax(1)
    np.testing.assert_allclose(on(ODIN(), model, 6), 1 - probability.detach().numpy(), atol=1e-9)
    # Towards the predicted class: the softmax at that temperature rises.
    plain = (model(x).double() / 1000.0).softmax(1).amax(1)
    assert bool((probability > plain).all())


def test_the_grid_of_odin_holds_the_fixed_point(model: ImageClassifier) -> None:
    grid = TunedODIN()
    grid.attach([model])
    statistics = measured(grid, pixels(6))
    scores = grid.scores(statistics)
    assert list(scores) == grid.score_names() == next(iter(grid.oracles().values()))
    np.testing.assert_allclose(scores["ODIN T=1000 ε=0.0014"], on(ODIN(), model, 6), atol=1e-12)
    plain = MaxSoftmax().score({"logits": statistics["logits"]})
    np.testing.assert_allclose(scores["ODIN T=1 ε=0"], plain, atol=1e-6)


def test_the_grid_of_distances(model: ImageClassifier) -> None:
    grid = mahalanobis.TunedMahalanobis()
    grid.recipe = SimpleNamespace(config=model.config)  # type: ignore[assignment]
    grid.attach([model])
    scores = grid.scores(measured(grid, pixels(6)))
    assert len(scores) == 7 * 3
    np.testing.assert_allclose(scores["MD ε=0 stage 3"], on(mahalanobis.Mahalanobis(), model, 6))
    x = (pixels(6).float() / 255).requires_grad_()
    model.distances(x)[:, 1].sum().backward()
    assert x.grad is not None
    moved = model.distances(x.detach() - 0.005 * x.grad.sign())[:, 1]
    np.testing.assert_allclose(scores["MD ε=0.005 stage 2"], moved.detach().numpy())


def test_the_norm_of_the_gradient_is_that_of_autograd(model: ImageClassifier) -> None:
    expected = []
    for image in pixels(6):
        log_p = model.logits(image[None]).log_softmax(1)
        divergence = F.kl_div(log_p, torch.full_like(log_p, 0.1), reduction="sum")
        (gradient,) = torch.autograd.grad(divergence, model.head.weight)
        expected.append(-float(gradient.abs().sum()))
    np.testing.assert_allclose(on(GradNorm(), model, 6), expected, rtol=1e-4)


# ---------------------------------------------------------------------- ensembles, neighbours, VAEs
def test_an_ensemble_of_equal_members_is_the_single_classifier(model: ImageClassifier) -> None:
    ensemble, single = DeepEnsemble(), MaxSoftmax()
    ensemble.attach([model] * 3)
    found = ensemble.score(measured(ensemble, pixels(12)))
    np.testing.assert_allclose(found, on(single, model), atol=1e-12)


def test_an_ensemble_that_is_nearly_certain_is_not_rounded_to_certainty() -> None:
    gaps = np.array([38.0, 45.0, 60.0, 200.0])
    logits = torch.from_numpy(np.stack([gaps, 0 * gaps], axis=1))
    members = [SimpleNamespace(logits=lambda images: logits) for _ in range(2)]
    ensemble = DeepEnsemble()
    ensemble.attach(members)  # type: ignore[arg-type]
    found = ensemble.score(measured(ensemble, pixels(4)))
    np.testing.assert_allclose(found, np.exp(-gaps) / (1 + np.exp(-gaps)), rtol=1e-12)


def test_an_ensemble_averages_probabilities_not_logits(model: ImageClassifier) -> None:
    torch.manual_seed(1)
    other = ClassifierConfig(network=CONV).build((1, 8, 8)).eval()  # type: ignore[arg-type]
    ensemble = DeepEnsemble()
    ensemble.attach([model, other])
    both = [m.logits(pixels(12)).double().softmax(1).detach().numpy() for m in (model, other)]
    found = ensemble.score(measured(ensemble, pixels(12)))
    np.testing.assert_allclose(found, 1 - np.mean(both, axis=0).max(1), atol=1e-12)


def test_the_recipe_says_how_many_members() -> None:
    for scale, members in (("paper", 20), ("small", 5)):
        for name in ("classifier-F", "classifier-C"):
            assert (
                resolve(find_recipe(name), scale, "classifier-ensemble").measure.members == members
            )
            alone = resolve(find_recipe(name), scale, "classifier")
            assert (
                alone.fit_parts()
                == resolve(find_recipe(name), scale, "classifier-ensemble").fit_parts()
            )


def test_the_kth_neighbour_by_brute_force(model: ImageClassifier) -> None:
    knn = NearestNeighbours()
    knn.attach([model])
    train, test = measured(knn, pixels(200, 5)), measured(knn, pixels(12))
    knn.calibrate(train)
    away = np.linalg.norm(test["features"][:, None] - train["features"], axis=2)
    np.testing.assert_allclose(knn.score(test), np.sort(away, axis=1)[:, 49], atol=1e-9)


def test_the_latent_distance_is_that_of_the_codes() -> None:
    torch.manual_seed(0)
    vae = ConvVAEConfig(latent=3, width=4, levels=2).build((1, 8, 8)).eval()
    detector = LatentMahalanobis()
    detector.attach([vae])
    train, test = measured(detector, pixels(100, 5)), measured(detector, pixels(6))
    detector.calibrate(train)
    away = test["code"] - train["code"].mean(0)
    inverse = np.linalg.inv(np.cov(train["code"].T, bias=True))
    expected = [0.5 * a @ inverse @ a for a in away]
    np.testing.assert_allclose(detector.score(test), expected, rtol=1e-9)


def test_the_rate_is_the_score_and_zero_for_the_prior() -> None:
    torch.manual_seed(0)
    model = VIBConfig(network=CONV, latent=4).build((1, 8, 8)).eval()  # type: ignore[arg-type]
    detector = VIB()
    detector.attach([model])
    assert (detector.score(measured(detector, pixels(5))) > 0).all()
    for parameter in model.posterior_head.parameters():
        parameter.data.zero_()
    np.testing.assert_allclose(detector.score(measured(detector, pixels(5))), 0, atol=1e-6)


def test_the_rate_of_a_mixture_is_high_where_nothing_is_encoded() -> None:
    torch.manual_seed(0)
    model = MixtureVIBConfig(network=CONV, components=3).build((1, 8, 8)).eval()  # type: ignore[arg-type]
    detector = MixtureVIB()
    detector.attach([model])
    images, indices = pixels(5), np.arange(5)
    with torch.inference_mode():
        near = detector.measure(images, KeyedNoise(0, indices))
        model.means += 10.0
        far = detector.measure(images, KeyedNoise(0, indices))
        one = detector.measure(images[3:4], KeyedNoise(0, indices[3:4]))
    assert near["rate"].shape == (5,)
    assert (far["rate"] > near["rate"] + 100).all()
    torch.testing.assert_close(one["rate"], far["rate"][3:4])
    np.testing.assert_array_equal(detector.score({"rate": far["rate"].numpy()}), far["rate"])


# ---------------------------------------------------------------------- diagnosis, table
def test_the_calibration_error_is_that_of_scikit_learns_curve() -> None:
    generator = np.random.default_rng(0)
    p = softmax(generator.normal(size=(3000, 4)) * 2)
    labels = np.array([generator.choice(4, p=row) for row in p**0.5 / (p**0.5).sum(1)[:, None]])
    confidence, right = p.max(1), (p.argmax(1) == labels).astype(float)
    share, mean = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    expected = (np.abs(share - mean) * counts[counts > 0]).sum() / len(labels)
    assert calibration_error(p, labels) == pytest.approx(expected)
    assert calibration_error(np.eye(4)[labels], labels) == 0.0


def test_the_diagnosis_needs_labels() -> None:
    detector, labels = MaxSoftmax(), LOGITS.argmax(1)
    labels[:5] = (labels[:5] + 1) % 10
    assert detector.diagnose({"logits": LOGITS}, {}, (1, 8, 8)) == {}
    found = detector.diagnose({"logits": LOGITS, "label": labels}, {}, (1, 8, 8))
    assert found["accuracy"] == 0.9


def test_the_suite_of_table_1_runs_these_detectors() -> None:
    suite = find_suite("table1")
    labels = {"max-softmax", "entropy-softmax", "odin", "mahalanobis", "mahalanobis-densenet",
              "deep-ensemble", "energy"}  # fmt: skip
    prior = {"cp-ood", "cp-calibrated", "outlier-exposure", "vib-mixture"}
    assert labels | prior | {"latent-mahalanobis"} <= set(suite.detectors)
    assert {DETECTORS.get(name).category for name in labels} == {"labels"}
    assert {DETECTORS.get(n).category for n in (*prior, "odin-tuned", "mahalanobis-tuned")} == {
        "prior"
    }
    assert all(DETECTORS.get(name).cost for name in labels | prior)
    assert odin.ODIN.cost == "3 f + b"
