"""What pytorch-ood computes, what we compute beside it, and whether the reasons still hold.

A failing reason is good news: the library serves now, and our formula can go.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_classifier import pixels, random_classifier

from oodbench.baselines.classifier import ClassifierDetector
from oodbench.baselines.energy import Energy
from oodbench.baselines.entropy_softmax import SoftmaxEntropy
from oodbench.baselines.grad_norm import GradNorm
from oodbench.baselines.mahalanobis import Mahalanobis, RelativeMahalanobis
from oodbench.baselines.max_logit import MaxLogit
from oodbench.baselines.max_softmax import MaxSoftmax
from oodbench.baselines.odin import ODIN
from oodbench.baselines.vim import VirtualLogit
from oodbench.models.classifiers.image_classifier import ImageClassifier

LOGITS = np.random.default_rng(0).normal(size=(50, 10)) * 3


@pytest.fixture(scope="module")
def library() -> Any:
    """Seconds to import, and so not while tests are collected."""
    return importlib.import_module("pytorch_ood.detector")


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    return random_classifier()


def on(detector: ClassifierDetector, model: ImageClassifier) -> np.ndarray:
    detector.attach([model])
    with torch.inference_mode():
        found = detector.measure(pixels(12))
    return detector.score({name: value.double().numpy() for name, value in found.items()})


def same(ours: np.ndarray, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    values = theirs.detach().double().numpy()
    np.testing.assert_allclose(ours, values, atol=1e-5, rtol=tolerance)


def test_our_own_scores_are_those_of_the_library_to_its_precision(
    model: ImageClassifier, library: Any
) -> None:
    logits, statistics = torch.from_numpy(LOGITS), {"logits": LOGITS}
    same(MaxSoftmax().score(statistics), 1 + library.MaxSoftmax.score(logits))
    same(SoftmaxEntropy().score(statistics), library.Entropy.score(logits))
    x = pixels(12).float() / 255
    same(on(ODIN(), model), 1 + library.ODIN(model, eps=0.0014, temperature=1000.0).predict(x))
    train, labels = pixels(200, 5).float() / 255, torch.arange(200) % 10
    with torch.no_grad():
        z, new = model.features(train)[-1], model.features(x)[-1]
    gradient = library.GradNorm(model.head, param_filter=lambda name: name == "weight")
    same(on(GradNorm(), model), gradient.predict(new))
    # It leaves out the division by N, and a dead feature has its 1e-6.
    alive = z.double().std(0) > 0
    z, new = z[:, alive], new[:, alive]
    distance = library.Mahalanobis(None).fit_features(z, labels).predict_features(new)
    same(on(Mahalanobis(), model), distance * 200, 2e-3)
    # Without its factor ½.
    relative = library.RMD(None).fit_features(z, labels).predict_features(new)
    same(on(RelativeMahalanobis(), model), relative * 100, 2e-3)


def test_scores_that_it_computes_are_exact_in_float64() -> None:
    statistics = {"logits": LOGITS}
    exact = -np.logaddexp.reduce(LOGITS, axis=1)
    np.testing.assert_allclose(Energy().score(statistics), exact, rtol=1e-14)
    np.testing.assert_array_equal(MaxLogit().score(statistics), -LOGITS.max(axis=1))
    assert Energy().score(statistics).dtype == np.float64


# ---------------------------------------------------------------------- why not the others
def test_its_softmax_ties_and_its_entropy_reverses_near_certainty(library: Any) -> None:
    sure = np.array([[50.0, 0.0, 0.0], [60.0, 0.0, 0.0]])
    first, second = library.MaxSoftmax.score(torch.from_numpy(sure))
    assert first == second
    high, low = MaxSoftmax().score({"logits": sure})
    assert high > low > 0
    # Probabilities below 1e-7 are raised to it.
    draw = np.random.default_rng(0).normal(size=(200, 10))
    draw[:, 0] += 18.0
    ours = SoftmaxEntropy().score({"logits": draw})
    theirs = library.Entropy.score(torch.from_numpy(draw)).numpy()
    assert (np.diff(theirs[np.argsort(ours)]) < 0).any()


def test_its_distance_takes_no_float64_and_loses_directions_of_little_variance(
    library: Any,
) -> None:
    draw = np.random.default_rng(0)
    sizes = np.logspace(0, -5, 8)
    z, labels = torch.from_numpy(draw.normal(size=(500, 8)) * sizes), torch.arange(500) % 2
    fitted = library.Mahalanobis(None).fit_features(z, labels)
    with pytest.raises(RuntimeError, match="dtype"):
        fitted.predict_features(z)
    centred = (z - torch.stack([z[labels == c].mean(0) for c in (0, 1)])[labels]).numpy()
    exact = 0.5 * np.einsum("ni,ij,nj->n", centred, np.linalg.inv(centred.T @ centred), centred)
    found = fitted.predict_features(z.float()).numpy()
    assert (np.abs(found - exact) > 0.1 * exact).any()


def test_its_vim_is_float32_and_loses_a_small_residual(library: Any) -> None:
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(size=(4, 16)), draw.normal(size=4)
    features = 30 * draw.normal(size=(400, 8)) @ draw.normal(size=(8, 16))
    features += 1e-3 * draw.normal(size=features.shape)
    statistics = {"features": features, "logits": features @ weight.T + bias}
    ours = VirtualLogit()
    parts = torch.from_numpy(weight), torch.from_numpy(bias)
    ours.model = SimpleNamespace(head=SimpleNamespace(weight=parts[0], bias=parts[1]))  # type: ignore[assignment]
    ours.calibrate(statistics)
    theirs = library.ViM(None, 8, *parts).fit_features(torch.from_numpy(features), None)
    assert theirs.w.dtype == torch.float32
    found = theirs.predict_features(torch.from_numpy(features)).numpy()
    exact = ours.score(statistics)
    assert np.abs(found - exact).max() > 1e-2 * np.abs(exact).max()
