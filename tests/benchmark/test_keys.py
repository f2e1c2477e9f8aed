"""Stale results cannot happen: what can change a number is in its key, and nothing else is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.imageset import ImageSet, fingerprint
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import get_pair
from oodbench.declare.recipes import recipe_files, resolve
from oodbench.declare.settings import Measuring, Training
from oodbench.detect.detector import DETECTORS, _adopt, wants_noise
from oodbench.errors import OodbenchError
from oodbench.flow.bench import Bench
from oodbench.flow.keys import configuration, fit_keys, measure_key, run_key, score_key
from oodbench.flow.plan import Job, parse_detector
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.progress import Progress
from oodbench.seeding import training_split
from oodbench.store.store import Store

CASES = [
    (name, scale, variant)
    for name, file in recipe_files().items()
    for scale in file.scales
    for variant in file.variants
]


def leaves(value: JSON, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every scalar in a configuration."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


def changed(value: JSON, path: tuple[str | int, ...], new: JSON) -> JSON:
    """A copy with another value at a path."""
    if not path:
        return new
    if isinstance(value, Mapping):
        return {k: changed(v, path[1:], new) if k == path[0] else v for k, v in value.items()}
    assert isinstance(value, list | tuple)
    return [changed(v, path[1:], new) if i == path[0] else v for i, v in enumerate(value)]


def at(value: JSON, path: tuple[str | int, ...]) -> JSON:
    for step in path:
        value = value[step]  # type: ignore[index,call-overload]
    return value


def others(value: JSON) -> list[JSON]:
    """Values of the same kind to put there instead; those a model refuses are passed over."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value + 2, 3 * value + 1]
    if isinstance(value, float):
        return [value * 1.5 + 1e-3, value * 0.37 + 1e-5]
    if isinstance(value, str):
        words = ("relu", "elu", "silu", "mode", "sample", "adam", "adamax", "constant", "cosine",
                 "fp32", "bf16", "first", "last", "drop", "none", "bernoulli", "logistic",
                 "logistic-mixture", "elbo", "informative", "conv", "dense", "encoder",
                 "posterior")  # fmt: skip
        return [word for word in words if word != value]
    return [0.5, 2, 1000]


def test_settings_that_are_in_the_key_only_where_set() -> None:
    plain, refit = Training(epochs=1), {"what": "posterior"}
    assert "mutation" not in plain.model_dump(mode="json")
    assert Training(epochs=1, mutation=0.2).model_dump(mode="json")["mutation"] == 0.2
    measuring = Measuring.model_validate({"max_images": 5, "refit": refit}).model_dump(mode="json")
    assert (measuring["max_images"], measuring["refit"]["what"]) == (5, "posterior")
    assert not {"max_images", "refit"} & set(Measuring().model_dump(mode="json"))


@pytest.mark.parametrize(("name", "scale", "variant"), CASES, ids=lambda v: str(v))
def test_every_field_of_a_recipe_is_in_the_key(name: str, scale: str, variant: str) -> None:
    from pydantic import BaseModel, ValidationError

    recipe = resolve(recipe_files()[name], scale, variant)
    tried = 0
    for part in ("config", "training", "measure"):
        settings_ = getattr(recipe, part)
        assert isinstance(settings_, BaseModel)
        dumped = settings_.model_dump(mode="json")
        for path in leaves(dumped):
            for value in others(at(dumped, path)):
                try:
                    other = type(settings_).model_validate(changed(dumped, path, value))
                except ValidationError:
                    continue
                mutated = replace(recipe, **{part: other})
                same_fit = digest(mutated.fit_parts()) == digest(recipe.fit_parts())
                same_measure = mutated.measure == recipe.measure
                assert not (same_fit and same_measure), (part, path, value)
                assert same_fit == (part == "measure"), (part, path, value)
                tried += 1
    assert tried > 25


# ---------------------------------------------------------------------- data
@given(
    st.integers(0, 4), st.integers(0, 2), st.integers(0, 3), st.integers(0, 3), st.integers(1, 255)
)
@settings(max_examples=60, deadline=None)
def test_one_pixel_changes_the_fingerprint(n: int, c: int, h: int, w: int, by: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), dtype=np.uint8)
    other = images.copy()
    other[n, c, h, w] = (int(other[n, c, h, w]) + by) % 256
    assert fingerprint(images, ()) != fingerprint(other, ())
    assert fingerprint(images, ()) != fingerprint(images, ("invert",))
    assert fingerprint(images, ()) != fingerprint(images.reshape(5, 3, 2, 8), ())
    assert fingerprint(images, ()) == fingerprint(np.asfortranarray(images), ())
    assert fingerprint(images[[1, 0, 2, 3, 4]], ()) != fingerprint(images, ())


# ---------------------------------------------------------------------- a whole job
@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> DataPlaces:
    return DataPlaces((), tmp_path_factory.mktemp("cache"))


def evaluation(places: DataPlaces, bench: Bench | None = None, name: str = "dose-hvae",
               **more: object) -> ResolvedJob:  # fmt: skip
    job = Job(parse_detector(name), "digits", (get_pair("digits-photos"),), "smoke", 0)
    bench = bench or Bench(Store(places.cache / "store"), places, Progress("quiet"), "cpu")
    return ResolvedJob(bench, replace(job, **more))  # type: ignore[arg-type]


def keys(found: ResolvedJob) -> list[str]:
    """Digests of fits, measurement, scores and run."""
    ood = found.ood(found.pairs[0])
    return [key.digest for key in (*fit_keys(found), measure_key(found, found.test),
                                   score_key(found, ood), run_key(found, ood))]  # fmt: skip


def all_differ(a: ResolvedJob, b: ResolvedJob) -> bool:
    return not set(keys(a)) & set(keys(b))


@pytest.mark.parametrize("name", ["dose-hvae", "informative-hvae", "waic-glow"])
def test_what_must_change_every_key(places: DataPlaces, name: str) -> None:
    base = evaluation(places, name=name)
    assert all_differ(base, evaluation(places, name=name, seed=1))
    overrides = {"training": {"lr": 0.5}}
    assert all_differ(base, evaluation(places, name=name, overrides=overrides))

    one = evaluation(places, name=name)
    train = one.train.images.copy()
    train[3, 0, 2, 2] ^= 1
    one.train = dataclasses.replace(one.train, fingerprint=fingerprint(train, ()))
    assert all_differ(base, one)

    test = base.test.images.copy()
    test[-1, 0, 0, 0] ^= 1
    other = evaluation(places, name=name)
    other.test = ImageSet("digits", "test", test, fingerprint(test, ()))
    assert keys(other)[-3] != keys(base)[-3]
    assert keys(other)[-1] != keys(base)[-1]
    assert fit_keys(other) == fit_keys(base)


def test_a_revision_changes_what_it_is_the_revision_of(
    places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = keys(evaluation(places, name="typicality-hvae"))
    with monkeypatch.context() as patch:
        patch.setattr(DETECTORS.get("typicality-hvae"), "revision", 99)
        new = keys(evaluation(places, name="typicality-hvae"))
        assert new[0] == base[0]
        assert not set(new[1:]) & set(base[1:])
    with monkeypatch.context() as patch:
        recipe = evaluation(places, name="typicality-hvae").recipe
        patch.setattr(type(recipe.config), "revision", 99)  # type: ignore[union-attr]
        assert not set(keys(evaluation(places, name="typicality-hvae"))) & set(base)
    with monkeypatch.context() as patch:
        patch.setattr("oodbench.flow.keys.METRICS_REVISION", 99)
        new = keys(evaluation(places, name="typicality-hvae"))
        assert new[:-1] == base[:-1]
        assert new[-1] != base[-1]


def test_a_revision_of_the_noise_changes_what_is_drawn_for(
    places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measurements with random numbers, and what is made of them: nothing else, and no fit."""
    names = [n for n in DETECTORS.names() if DETECTORS.get(n).__module__.startswith("oodbench.")]
    before = {name: evaluation(places, name=name) for name in names}
    base = {name: (keys(found), configuration(found, found.test)) for name, found in before.items()}
    monkeypatch.setattr("oodbench.flow.keys.NOISE_REVISION", 99)
    noisy = 0
    for name in names:
        now = evaluation(places, name=name)
        made, (then, configured) = keys(now), base[name]
        fits = len(fit_keys(now)) if now.has_fit else 0
        assert made[:fits] == then[:fits]
        if wants_noise(type(now.detector)):
            noisy += 1
            assert not set(made[fits:]) & set(then[fits:])
            assert configuration(now, now.test) != configured
        else:
            assert (made, configuration(now, now.test)) == (then, configured)
    assert 20 < noisy < len(names) - 20


def test_scores_can_change_without_what_is_measured(
    places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = keys(evaluation(places, name="typicality-hvae"))
    cls = DETECTORS.get("typicality-hvae")
    monkeypatch.setattr(cls, "measure_revision", cls.revision)
    assert keys(evaluation(places, name="typicality-hvae")) == base
    monkeypatch.setattr(cls, "revision", 99)
    new = keys(evaluation(places, name="typicality-hvae"))
    assert new[:2] == base[:2]
    assert not set(new[2:]) & set(base[2:])


def test_a_revision_of_measurements_is_not_inherited_with_another_measurement() -> None:
    class Mine(DETECTORS.get("energy")):  # type: ignore[misc]
        measure_name = "mine"

    class Same(DETECTORS.get("energy")):  # type: ignore[misc]
        def score(self, statistics: Mapping[str, np.ndarray]) -> np.ndarray:
            return statistics["logits"][:, 0]

    assert _adopt("mine-here", Mine).measure_revision == 0
    assert _adopt("same-here", Same).measure_revision == DETECTORS.get("energy").measure_revision


def test_fewer_training_images_are_measured_where_no_score_compares_with_them(
    places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodbench.flow.resolved_job.COMPARED_IMAGES", 300)
    monkeypatch.setattr("oodbench.flow.resolved_job.DIAGNOSED_IMAGES", 100)
    calibrated, plain = evaluation(places, name="dose-hvae"), evaluation(places, name="glow")
    assert [found.train_subset for found in (calibrated, plain)] == [300, 100]
    ((images, size),) = plain.compared()
    assert (images.split, size) == ("train", 100)


@pytest.mark.parametrize("name", ["knn", "dose-hvae", "typicality-glow", "odin-validated"])
def test_what_a_score_compares_with_does_not_depend_on_a_test_set(
    places: DataPlaces, name: str
) -> None:
    base, other = evaluation(places, name=name), evaluation(places, name=name)
    other.test = other.test.subset(np.arange(40))
    found = [measure_key(keys, keys.train, keys.train_subset).digest for keys in (base, other)]
    assert found[0] == found[1]
    assert base.train_subset == len(base.train) == 1297
    limited = {"measure": {"max_images": 120}}
    assert evaluation(places, name=name, overrides=limited).train_subset == 120


def test_drawn_outliers_do_not_depend_on_a_test_set(places: DataPlaces) -> None:
    drawn: dict[str, JSON] = {"training": {"outliers": {"kind": "set", "name": "uniform"}}}
    found = [evaluation(places, name="outlier-exposure", overrides=drawn) for _ in range(2)]
    found[1].test = found[1].test.subset(np.arange(40))
    assert fit_keys(found[0]) == fit_keys(found[1])


@pytest.mark.parametrize(("in_dist", "labels"), [("digits[0-4]", 5), ("digits[5-9]", 5),
                                                 ("digits[2,3,9]", 3), ("digits", 10)])  # fmt: skip
def test_a_classifier_has_an_output_for_every_class_with_images_and_no_other(
    places: DataPlaces, in_dist: str, labels: int
) -> None:
    found = evaluation(places, name="grad-norm", in_dist=in_dist)
    assert found.recipe is not None
    assert found.recipe is found.detector.recipe
    assert found.recipe.config.model_dump(mode="json")["classes"] == labels
    given = found.supervision(found.recipe).labels
    assert given is not None
    assert sorted(set(given)) == list(range(labels))
    # Order is kept, and so is every image's class.
    assert np.array_equal(np.unique(found.train.labels)[given], found.train.labels)  # type: ignore[arg-type]
    strange = found.numbered(np.array([-7, 99]), found.recipe)
    assert strange.tolist() == [-1, -1]


def test_classes_that_fall_out_of_the_training_images_have_no_output(places: DataPlaces) -> None:
    few = evaluation(places, name="energy", overrides={"training": {"max_images": 8}})
    assert few.recipe is not None
    assert few.train.labels is not None
    kept, left = training_split(len(few.train), 8)
    known = np.unique(few.train.labels[kept])
    assert len(known) < 10
    assert few.recipe.config.model_dump(mode="json")["classes"] == len(known)
    numbered = few.numbered(few.train.labels, few.recipe)
    assert np.array_equal(numbered[left] < 0, ~np.isin(few.train.labels[left], known))


@pytest.mark.parametrize(("in_dist", "message"), [
    ("digits[3]", r"digits\[3\] are of one class"),
    ("digits", r"digits has 10 classes, the recipe classifier-D-smoke 4; set model.classes to 10"),
])  # fmt: skip
def test_too_few_and_too_many_classes_are_said_at_once(
    places: DataPlaces, in_dist: str, message: str
) -> None:
    with pytest.raises(OodbenchError, match=message):
        evaluation(places, name="energy", in_dist=in_dist, overrides={"model": {"classes": 4}})


def test_what_cannot_matter_changes_no_key(places: DataPlaces, tmp_path: Path) -> None:
    base = keys(evaluation(places))
    other_places = DataPlaces((tmp_path,), tmp_path / "elsewhere")
    for bench in (
        Bench(Store(tmp_path / "other"), places, Progress("lines"), "cuda:7"),
        Bench(Store("memory://keys"), places, Progress("bars"), "cpu", batch_size=3),
        Bench(Store(tmp_path), other_places, Progress("quiet"), checkpoint_seconds=0.0),
    ):
        assert keys(evaluation(places, bench)) == base
    unlabelled = evaluation(places)
    unlabelled.train = unlabelled.train.without_labels()
    assert keys(unlabelled) == base


def test_labels_matter_to_a_detector_that_is_given_them(
    places: DataPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oodbench import Detector, register

    monkeypatch.setattr(DETECTORS, "_objects", dict(DETECTORS._objects))

    @register("with-labels", category="labels")
    class WithLabels(Detector):
        def fit(self, train: object, context: object) -> None:
            pass

    base, other = (evaluation(places, name="with-labels") for _ in range(2))
    assert other.train.labels is not None
    other.train = dataclasses.replace(other.train, labels=other.train.labels[::-1])
    assert all_differ(base, other)
