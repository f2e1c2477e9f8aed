"""Estimators as detectors: names, signs, subsets, refits; distances of features; modules."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import oodbench
from oodbench.baselines import estimator_families, estimators
from oodbench.baselines.estimators import OutlierEstimator
from oodbench.baselines.features import FeatureDistances
from oodbench.baselines.modules import PlainDensity
from oodbench.datasets.imageset import ImageSet, fingerprint
from oodbench.declare.family_names import ParametrisedName
from oodbench.detect.detector import DETECTORS, Detector, FitContext
from oodbench.errors import ConfigError, OodbenchError, PluginError, UnknownNameError
from oodbench.seeding import KeyedNoise
from oodbench.store.store import Store

needs_pyod = pytest.mark.skipif(
    importlib.util.find_spec("pyod") is None, reason="PyOD is not installed (the extra 'pyod')"
)
CONTEXT = FitContext("cpu", 0, lambda _: None, Path())


def blobs(count: int, seed: int, spread: float = 10.0) -> np.ndarray:
    """(N, 1, 2, 2) uint8 around 100."""
    values = np.random.default_rng(seed).normal(100, spread, (count, 1, 2, 2))
    return values.round().clip(0, 255).astype(np.uint8)


def image_set(images: np.ndarray) -> ImageSet:
    return ImageSet("blobs", "train", images, fingerprint(images, ()))


def fitted(name: str, train: np.ndarray) -> Detector:
    detector = DETECTORS.get(name)()
    detector.fit(image_set(train), CONTEXT)
    return detector


def scores(detector: Detector, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found = detector.measure(torch.from_numpy(images))  # type: ignore[call-arg]
    return detector.score({name: value.numpy() for name, value in found.items()})


# ---------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("sklearn.PCA", "sklearn.PCA"),
        ("sklearn.X,b=1e-3,a=0.50", "sklearn.X,a=0.5,b=0.001"),
        ("pyod.X,t=(64, 32),n=None,w=rbf,y=True", "pyod.X,n=None,t=(64,32),w=rbf,y=True"),
        ("pyod.X,t=[1],s='None'", "pyod.X,s='None',t=(1,)"),
    ],
)
def test_one_detector_has_one_name(text: str, canonical: str) -> None:
    assert str(ParametrisedName.parse(text)) == canonical
    assert str(ParametrisedName.parse(canonical)) == canonical
    assert DETECTORS.canonical(text) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sklearn.X,3", "'3' is no parameter"),
        ("sklearn.X,a=1,a=2", "stands twice"),
        ("sklearn.X,a=__import__('os')", "is no value"),
        ("sklearn.X,a=1+", "is no value"),
        ("sklearn.X,a=", "is no value"),
        ("sklearn.X,a={1:2}", "dict is no type"),
        ("sklearn.X,a=1e999", "float is no type"),
        ("sklearn.X,a='a b'", "may hold letters"),
        ("sklearn.", "write FAMILY.CLASS"),
        ("sklearn.os.system", "nearest: "),
        ("sklearn.IsolationForst", "nearest: IsolationForest"),
        ("sklearn.IsolationForest,n_estimator=2", "nearest: n_estimators"),
        ("sklearn.IsolationForest,random_state=2", "--seeds"),
        ("sklearn.LocalOutlierFactor,novelty=False", "unknown parameter .*'novelty'"),
        ("sklearn.PCA,pca=0", "pca must be a whole number"),
        ("sklearn.PCA,max_images=1.5", "max_images must be a whole number"),
        ("sklear.PCA", "nearest: sklearn.CLASS"),
    ],
)
def test_bad_names_are_one_line(text: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message) as caught:
        DETECTORS.get(text)
    assert "\n" not in str(caught.value)


def test_the_table_holds_every_estimator_that_scores_samples() -> None:
    from sklearn.utils import all_estimators

    found = {
        name for name, cls in all_estimators()
        if hasattr(cls, "score_samples")
        and not cls.__module__.startswith(("sklearn.model_selection", "sklearn.pipeline"))
        and name != "BernoulliRBM"  # a pseudo-likelihood of binary units, itself a random draw
    }  # fmt: skip
    assert found == set(estimator_families.SKLEARN)


# ---------------------------------------------------------------------- signs
@pytest.mark.parametrize("name", sorted(estimator_families.SKLEARN))
def test_far_images_score_higher_with_every_class_of_sklearn(name: str) -> None:
    detector = fitted(f"sklearn.{name}", blobs(300, 0))
    near, far = scores(detector, blobs(50, 1)), scores(detector, blobs(50, 2, 60.0))
    truth = np.r_[np.zeros(50), np.ones(50)]
    if name == "SGDOneClassSVM":  # linear: dark images are on the far side of its plane
        far = scores(detector, blobs(50, 2) // 4)
    assert roc_auc_score(truth, np.r_[near, far]) > 0.9


@needs_pyod
@pytest.mark.parametrize("name", ["HBOS", "KNN", "PCA"])
def test_far_images_score_higher_with_pyod(name: str) -> None:
    detector = fitted(f"pyod.{name}", blobs(300, 0))
    near, far = scores(detector, blobs(50, 1)), scores(detector, blobs(50, 2, 60.0))
    assert roc_auc_score(np.r_[np.zeros(50), np.ones(50)], np.r_[near, far]) > 0.9
    # PyOD's own labels say which end is which: 1 is an outlier.
    features = estimators.pixels(np.concatenate([blobs(50, 1), blobs(50, 2, 60.0)]))
    labels = detector.estimator.predict(features)  # type: ignore[attr-defined]
    both = np.r_[near, far]
    assert both[labels == 1].min() >= both[labels == 0].max()


def test_sklearn_agrees_with_its_own_labels() -> None:
    detector = fitted("sklearn.IsolationForest,n_estimators=20", blobs(300, 0))
    images = np.concatenate([blobs(50, 1), blobs(50, 2, 60.0)])
    labels = detector.estimator.predict(estimators.pixels(images))  # type: ignore[attr-defined]
    found = scores(detector, images)
    assert found[labels == -1].min() >= found[labels == 1].max()


# ---------------------------------------------------------------------- fit, state, store
def test_a_refit_is_the_same_and_another_one_is_refused() -> None:
    name, train, test = "sklearn.IsolationForest,n_estimators=10,pca=2", blobs(200, 0), blobs(40, 1)
    first, again = fitted(name, train), fitted(name, train)
    again.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(scores(first, test), scores(again, test))
    other = fitted(name, blobs(200, 9))
    with pytest.raises(PluginError, match="fitted again, it gives other scores"):
        other.load_state_dict(first.state_dict())


def test_scores_do_not_depend_on_the_batch() -> None:
    detector, images = fitted("sklearn.LocalOutlierFactor,pca=2", blobs(200, 0)), blobs(30, 1)
    alone = np.concatenate([scores(detector, image[None]) for image in images])
    np.testing.assert_allclose(scores(detector, images), alone, rtol=1e-5)


@needs_pyod
def test_a_transductive_estimator_is_refused() -> None:
    with pytest.raises(PluginError, match="depends on the others of the batch"):
        fitted("pyod.ECOD", blobs(200, 0))


def test_what_an_estimator_refuses_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"n_estimators=-3: .*n_estimators") as error:
        fitted("sklearn.IsolationForest,n_estimators=-3", blobs(50, 0))
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="n_components"):
        fitted("sklearn.IsolationForest,pca=9", blobs(50, 0))


def test_a_singular_matrix_is_answered_with_components_that_work() -> None:
    images = blobs(200, 0)
    images[:, :, 1:] = 7  # one row of pixels varies
    with pytest.raises(ConfigError, match="vary in 2 of 4 directions") as error:
        fitted("sklearn.PCA", images)
    (advised,) = re.findall(r"as in '(sklearn\.PCA,pca=\d+)'", str(error.value))
    assert np.isfinite(scores(fitted(advised, images), images)).all()
    for name in ("sklearn.PCA", "sklearn.PCA,n_components=3"):
        with pytest.raises(ConfigError, match="all training images are equal"):
            fitted(name, np.repeat(images[:1], 50, axis=0))


def test_without_pyod_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator_families.pyod_classes.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PluginError, match=r"pip install 'oodbench\[pyod\]'"):
        DETECTORS.get("pyod.KNN,n_neighbors=77")
    estimator_families.pyod_classes.cache_clear()


@needs_pyod
def test_every_class_of_pyod_that_is_listed_is_there() -> None:
    known = estimator_families.pyod_classes()
    assert {"KNN", "HBOS", "ECOD", "AutoEncoder", "DeepSVDD", "LOF"} <= set(known)
    assert "n_neighbors" in known["KNN"].parameters
    cls = importlib.import_module(known["KNN"].module).KNN
    assert cls().get_params().keys() <= set(known["KNN"].parameters)
    with pytest.raises(UnknownNameError, match="nearest: KNN"):
        DETECTORS.get("pyod.KN")


def test_a_subset_is_seeded_keyed_and_noted(tmp_path: Path) -> None:
    store = str(tmp_path / "store")

    def fits() -> list[dict[str, object]]:
        return [dict(entry.parts) for entry in Store(store).entries("fit")]

    name = "sklearn.PCA,max_images=300,n_components=5"
    seen = []
    for _ in range(2):  # the second reads the fit, once its measurements are gone
        oodbench.run("digits-photos", [name], store=store, quiet=True, device="cpu")
        (run,) = Store(store).entries("run")
        seen.append(run.record["scores"])
        for stage in ("measure", "score", "run"):
            shutil.rmtree(Path(store) / stage)
    assert seen[0] == seen[1]
    assert run.record["notes"] == ["fitted on a seeded subset of 300 of 1,297 training images"]
    (fit,) = fits()
    assert fit["images"] == 300
    assert set(fit["environment"]) == {"scikit-learn"}  # type: ignore[call-overload]


def test_an_estimator_of_ones_own_needs_make() -> None:
    with pytest.raises(NotImplementedError):
        OutlierEstimator().make(0)


# ---------------------------------------------------------------------- features and modules
class Small(FeatureDistances):
    neighbours = 3

    def extractor(self, shape: tuple[int, int, int]) -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3), torch.nn.Tanh())


def test_feature_distances_against_scikit_learn() -> None:
    from sklearn.covariance import EmpiricalCovariance
    from sklearn.neighbors import NearestNeighbors

    train, test = blobs(100, 0, 40.0), np.concatenate([blobs(20, 1), blobs(20, 2, 90.0)])
    detector, copy = Small(), Small()
    detector.fit(image_set(train), CONTEXT)
    copy.load_state_dict(detector.state_dict())
    found = copy.measure(torch.from_numpy(test))
    f, g = (detector.features(torch.from_numpy(x)).numpy() for x in (train, test))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (f, g)]
    nearest = NearestNeighbors(n_neighbors=3).fit(unit[0]).kneighbors(unit[1])[0][:, -1]
    np.testing.assert_allclose(found["knn"].numpy(), nearest, atol=1e-9)
    model = EmpiricalCovariance().fit(f)
    expected = model.mahalanobis(g) * (len(f) - 1) / len(f)
    np.testing.assert_allclose(found["mahalanobis"].numpy(), expected, rtol=1e-3)
    for values in copy.scores({k: v.numpy() for k, v in found.items()}).values():
        assert roc_auc_score(np.r_[np.zeros(20), np.ones(20)], values) > 0.7


def test_log_prob_may_take_noise_and_samples_or_neither() -> None:
    class Plain(torch.nn.Module):
        def log_prob(self, images: torch.Tensor) -> torch.Tensor:
            return -images.float().flatten(1).sum(1)

    class Noisy(torch.nn.Module):
        def log_prob(self, images: torch.Tensor, noise: KeyedNoise, samples: int) -> torch.Tensor:
            return samples * noise.normal("x", (1,))[:, 0]

    images = torch.from_numpy(blobs(3, 0))
    noise = KeyedNoise(0, np.arange(3))
    plain = PlainDensity(Plain()).log_prob(images, noise)
    assert plain.dtype == torch.float64
    torch.testing.assert_close(plain, -images.double().sum((1, 2, 3)))
    noisy = PlainDensity(Noisy(), samples=2).log_prob(images, noise)
    torch.testing.assert_close(noisy, 2 * noise.normal("x", (1,))[:, 0].double())
    with pytest.raises(PluginError, match=r"Linear has no method log_prob"):
        PlainDensity(torch.nn.Linear(1, 1))
