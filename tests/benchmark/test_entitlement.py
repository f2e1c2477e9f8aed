"""What detectors and models are handed, by category: more is not within their reach."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oodbench.datasets.imageset import ImageSet, fingerprint
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import Pair, get_pair
from oodbench.declare.recipes import Recipe, find_recipe, resolve
from oodbench.detect.detector import Detector, FitContext
from oodbench.detect.entitlement import check_disjoint, check_recipe, handed, labels_for
from oodbench.errors import ConfigError, DataError, PluginError
from oodbench.flow.bench import Bench
from oodbench.flow.fit import make_fit
from oodbench.flow.keys import configuration, fit_key, fit_keys
from oodbench.flow.perform import perform
from oodbench.flow.plan import Job, parse_detector
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.models.classifiers.config import ClassifierConfig
from oodbench.progress import Progress
from oodbench.store.store import Store


def image_set(name: str, count: int = 20, seed: int = 0, labelled: bool = True) -> ImageSet:
    images = np.random.default_rng(seed).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    labels = np.arange(count) % 10 if labelled else None
    return ImageSet(name, "train", images, fingerprint(images, []), labels)


def detector(category: str) -> Detector:
    cls = type("Mine", (Detector,), {"name": "mine", "category": category})
    return cls()  # type: ignore[no-any-return]


def within_reach(*roots: object) -> Iterator[object]:
    """Everything that attributes, items and closures lead to, modules and classes left out."""
    seen: dict[int, object] = {}
    left = list(roots)
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, types.ModuleType | type):
            continue
        seen[id(thing)] = thing
        yield thing
        left += list(getattr(thing, "__dict__", {}).values())
        if isinstance(thing, dict):
            left += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            left += list(thing)
        elif isinstance(thing, types.MethodType):
            left += [thing.__self__, thing.__func__]
        elif isinstance(thing, types.FunctionType):
            left += [cell.cell_contents for cell in thing.__closure__ or ()]
            left += list(thing.__defaults__ or ())
        elif isinstance(thing, np.ndarray) and thing.base is not None:
            left.append(thing.base)


def holds(roots: tuple[object, ...], values: np.ndarray) -> bool:
    arrays = (
        np.asarray(t) for t in within_reach(*roots) if isinstance(t, np.ndarray | torch.Tensor)
    )
    return any(a.shape == values.shape and np.array_equal(a, values) for a in arrays)


# ---------------------------------------------------------------------- fit of a detector itself
@pytest.mark.parametrize("category", ["unsupervised", "ensemble", "labels", "prior"])
def test_fit_reaches_labels_only_in_the_categories_that_have_them(
    category: str, tmp_path: Path
) -> None:
    caught: list[object] = []

    class Mine(Detector):
        def fit(self, train: ImageSet, context: FitContext) -> None:
            caught.extend((train, context))

        def score(self, statistics: object) -> np.ndarray:
            raise NotImplementedError

    Mine.name, Mine.category = f"mine-{category}", category
    store, progress = Store(tmp_path / "store"), Progress("quiet")
    bench = Bench(store, DataPlaces((), tmp_path / "cache"), progress, "cpu")
    job = Job(parse_detector("mean-intensity"), "digits", (get_pair("digits-photos"),), "smoke", 0)
    keys = ResolvedJob(bench, job)
    keys.detector = Mine()
    (fit,) = keys.fits
    make_fit(keys, fit_key(keys, fit), fit)
    assert keys.train.labels is not None
    assert holds(tuple(caught), keys.train.labels) == (category in ("labels", "prior"))
    ood = keys.ood(get_pair("digits-photos"))
    assert not holds(tuple(caught), np.asarray(ood.images))
    assert not holds(tuple(caught), np.asarray(keys.test.images))
    # The walk does reach what is handed over.
    assert holds(tuple(caught), np.asarray(keys.train.images))


def test_the_way_back_to_the_files_is_not_handed_over() -> None:
    def lead() -> None:
        raise AssertionError(secret)

    secret = np.arange(20) % 10
    train = replace(image_set("a"), verify=lead)
    assert holds((train.without_labels(),), secret)
    assert not holds((handed(detector("unsupervised"), train),), secret)
    handed(detector("labels"), train).verify()


# ---------------------------------------------------------------------- models of recipes
def recipe(variant: str = "classifier", **overrides: object) -> Recipe:
    return resolve(find_recipe("classifier-D"), "smoke", variant, overrides or None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("category", "variant", "allowed"),
    [
        ("unsupervised", "classifier", False),
        ("ensemble", "classifier", False),
        ("labels", "classifier", True),
        ("prior", "classifier", True),
        ("labels", "outlier-exposure", False),
        ("prior", "outlier-exposure", True),
    ],
)
def test_a_recipe_gives_no_more_than_the_category_allows(
    category: str, variant: str, allowed: bool
) -> None:
    if allowed:
        check_recipe(detector(category), recipe(variant))
        return
    with pytest.raises(PluginError, match=f"'mine' of the category {category} stands on"):
        check_recipe(detector(category), recipe(variant))


def test_a_model_without_the_wish_gets_no_labels() -> None:
    vae = resolve(find_recipe("vae-D"), "smoke", "vae")
    assert labels_for(vae, image_set("a")) is None
    check_recipe(detector("unsupervised"), vae)
    assert labels_for(recipe(), image_set("a")) is not None
    with pytest.raises(DataError, match="a has no labels, and the recipe classifier-D-smoke"):
        labels_for(recipe(), image_set("a", labelled=False))


def test_exposure_and_outliers_go_together() -> None:
    for changes in (
        {"training": {"outliers": {"kind": "mutated"}}},
        {"model": {"exposure": "uniform"}},
    ):
        with pytest.raises(ConfigError, match=r"set model\.exposure and training\.outliers"):
            check_recipe(detector("prior"), recipe(**changes))


def test_what_reaches_a_model_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of the batch and the declared outliers; the OOD images of the pair never."""
    given: list[dict[str, torch.Tensor]] = []
    build = ClassifierConfig.build

    def watched(self: ClassifierConfig, shape: tuple[int, int, int]) -> torch.nn.Module:
        model = build(self, shape)
        loss = model.loss

        def spy(images: torch.Tensor, epoch: int, **more: torch.Tensor) -> dict[str, torch.Tensor]:
            given.append({"images": images.clone(), **more})
            return loss(images, epoch, **more)

        model.loss = spy  # type: ignore[method-assign]
        return model

    monkeypatch.setattr(ClassifierConfig, "build", watched)
    bench = Bench(Store(tmp_path / "s"), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    pair, short = get_pair("digits-photos"), {"training": {"epochs": 1, "epoch_images": 64}}
    for name, extra in (("max-softmax", {"labels"}), ("cp-calibrated", {"labels", "outliers"})):
        given.clear()
        outcome = perform(bench, Job(parse_detector(name), "digits", (pair,), "smoke", 0, short))
        assert not outcome.failures
        assert len(given) == 2
        assert {*given[0]} - {"images"} == extra
    keys = ResolvedJob(bench, Job(parse_detector("max-softmax"), "digits", (pair,), "smoke", 0))
    ood = {image.tobytes() for image in keys.ood(pair).images}
    shown = {i.numpy().tobytes() for step in given for n in ("images", "outliers") for i in step[n]}
    assert not shown & ood


# ---------------------------------------------------------------------- declared outliers
def as_it_is(images: ImageSet) -> ImageSet:
    return images


def test_outliers_share_nothing_with_the_ood_set() -> None:
    outliers, other = image_set("a.npz"), image_set("b.npz", seed=1)
    check_disjoint(outliers, other, as_it_is)
    mixed = np.concatenate([other.images, outliers.images[3:5]])
    joined = ImageSet("c.npz", "test", mixed, fingerprint(mixed, []))
    with pytest.raises(DataError, match="shares 2 images with the OOD set c"):
        check_disjoint(outliers, joined, as_it_is)


@pytest.mark.parametrize(
    ("declared", "ood"),
    [
        ("mnist", "mnist"),
        ("mnist", "mnist@invert"),
        ("mnist", "mnist[0-4]@blur(0.5)"),
        ("mnist[0-4]", "mnist[5-9]"),
        ("mnist@invert", "mnist[0-9]"),
        ("a.npz@blur(1)", "a.npz[1,2]"),
    ],
)
def test_classes_and_steps_make_no_other_set(declared: str, ood: str) -> None:
    with pytest.raises(DataError, match="the OOD set of the pair; declare another set"):
        check_disjoint(image_set(declared), image_set(ood, seed=1), as_it_is)


def test_a_blurred_copy_under_another_name_is_a_copy(tmp_path: Path) -> None:
    """A prior detector's validation set, copied, renamed and blurred, is no OOD set for it."""
    r = np.random.default_rng(0)
    for name in ("one", "two"):
        np.savez(tmp_path / f"{name}.npz", images=r.integers(0, 256, (90, 8, 8), dtype=np.uint8))
    (tmp_path / "copy.npz").write_bytes((tmp_path / "one.npz").read_bytes())
    bench = Bench(Store(tmp_path / "s"), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    changes = {"measure": {"validation": {"name": str(tmp_path / "one.npz")}}}
    request = parse_detector("odin-validated@classifier-D")
    for name, refused in (("two", False), ("copy", True)):
        pair = Pair(f"digits-{name}", "digits", f"{tmp_path / name}.npz@blur(0.5)")
        keys = ResolvedJob(bench, Job(request, "digits", (pair,), "smoke", 0, changes))
        if not refused:
            assert len(keys.ood(pair))
            continue
        with pytest.raises(DataError, match=r"shares \d+ images with the OOD set"):
            keys.ood(pair)


def test_a_pair_whose_ood_set_is_the_outliers_is_refused(tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path / "s"), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    changes = {"training": {"outliers": {"kind": "set", "name": "photos", "rate": 0.3}}}
    request, pair = parse_detector("outlier-exposure"), get_pair("digits-photos")
    outcome = perform(bench, Job(request, "digits", (pair,), "smoke", 0, changes))
    assert [str(error) for error in outcome.failures] == [
        "photos, declared as outliers or for validation, is the OOD set of the pair; declare"
        " another set in the recipe"
    ]
    assert not list(bench.store.entries("fit"))


def test_labels_and_outliers_are_in_the_key_of_a_fit(tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path / "s"), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    pair = get_pair("digits-photos")
    keys = ResolvedJob(bench, Job(parse_detector("max-softmax"), "digits", (pair,), "smoke", 0))
    before, ood = fit_keys(keys), keys.ood(pair)
    setting = configuration(keys, ood)
    assert keys.train.labels is not None
    keys.train = replace(keys.train, labels=9 - keys.train.labels)
    assert fit_keys(keys) != before
    assert configuration(keys, ood) != setting
    # Members of an ensemble are the fits of the single classifier.
    job = Job(parse_detector("deep-ensemble"), "digits", (pair,), "smoke", 0)
    members = fit_keys(ResolvedJob(bench, job))
    assert len(members) == 2
    assert before[0] in members
