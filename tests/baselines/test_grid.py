"""A point of a grid chosen on a validation OOD set: what is chosen, from what, and its key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oodbench.baselines.grid import ChosenOnValidation, Grid
from oodbench.baselines.likelihood_ratio import PixelCNNRatioGrid, PixelCNNRatioValidated
from oodbench.baselines.mahalanobis import TunedMahalanobis
from oodbench.baselines.mahalanobis_validated import ValidatedMahalanobis
from oodbench.baselines.odin import TunedODIN, ValidatedODIN
from oodbench.canonical_json import JSON
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import get_pair
from oodbench.declare.recipes import find_recipe, resolve
from oodbench.detect.detector import Detector
from oodbench.detect.entitlement import check_recipe
from oodbench.errors import ConfigError, PluginError
from oodbench.flow.bench import Bench
from oodbench.flow.keys import configuration, measure_key, score_key
from oodbench.flow.perform import perform
from oodbench.flow.plan import Job, parse_detector
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.progress import Progress
from oodbench.store.store import Store

POINTS = ("a", "b", "c")


class Three(Grid):
    """The statistics are the scores."""

    def grid(self, statistics):  # type: ignore[no-untyped-def]
        return {name: statistics[name] for name in POINTS}

    def grid_names(self) -> list[str]:
        return list(POINTS)


class Chosen(ChosenOnValidation, Three):
    chosen_name = "it"


def statistics(shift: dict[str, float], seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {name: draw.normal(size=100) + shift.get(name, 0.0) for name in POINTS}


def test_the_point_that_separates_best_is_chosen_and_is_the_only_score() -> None:
    detector, test = Chosen(), statistics({}, 2)
    assert detector.choose(statistics({}, 0), statistics({"a": -4.0, "b": 3.0, "c": 1.0}, 1)) == "b"
    assert detector.score_names() == ["it"]
    assert detector.oracles() == {}
    np.testing.assert_array_equal(detector.scores(test)["it"], test["b"])
    assert Three().oracles() == {"best": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("grid", "chosen"),
    [
        (TunedODIN, ValidatedODIN),
        (TunedMahalanobis, ValidatedMahalanobis),
        (PixelCNNRatioGrid, PixelCNNRatioValidated),
    ],
)
def test_both_forms_are_of_category_prior_and_measure_the_same(
    grid: type[Detector], chosen: type[Detector]
) -> None:
    assert grid.category == chosen.category == "prior"
    assert grid.measure_name == chosen.measure_name
    assert chosen.chooses()
    assert not grid.chooses()


def test_choosing_needs_the_category_and_a_declared_set() -> None:
    class Mine(Chosen):
        name = "mine"
        category = "labels"

    with pytest.raises(PluginError, match="chooses on validation OOD images; register it with"):
        check_recipe(Mine(), resolve(find_recipe("vae-D"), "smoke", "vae"))
    Mine.category, mine = "prior", Mine()
    mine.recipe = resolve(find_recipe("vae-D"), "smoke", "vae")
    with pytest.raises(ConfigError, match=r"declare one in measure\.validation"):
        check_recipe(mine, mine.recipe)


def job(changes: dict[str, JSON]) -> Job:
    pair, short = get_pair("digits-photos"), {"epochs": 1, "epoch_images": 64}
    overrides: dict[str, JSON] = {"training": short, "measure": changes}
    request = parse_detector("odin-validated")
    return Job(request, "digits", (pair,), "smoke", 0, overrides)


def test_a_run_says_what_was_chosen_and_where(tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path / "s"), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    (entry,) = perform(bench, job({"max_images": 100})).entries
    note = entry.record["notes"][-1]  # type: ignore[index]
    assert str(note).startswith("ODIN, validated: ODIN T=")
    assert str(note).endswith(", chosen on flower@resize test")
    keys = ResolvedJob(bench, job({"max_images": 100}))
    other = ResolvedJob(bench, job({"max_images": 100, "validation": {"name": "china@resize"}}))
    # The set decides on scores, not on what is measured.
    assert measure_key(keys, keys.test) == measure_key(other, other.test)
    assert score_key(keys, keys.test) != score_key(other, other.test)
    ood = keys.ood(get_pair("digits-photos"))
    assert configuration(keys, ood) != configuration(other, ood)


def test_the_id_set_through_steps_may_be_the_validation_set(tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path / "s"), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    changes: dict[str, JSON] = {"validation": {"name": "@invert", "split": "train"}}
    (entry,) = perform(bench, job({**changes, "max_images": 100})).entries
    assert str(entry.record["notes"][-1]).endswith(", chosen on digits@invert train")  # type: ignore[index]
    keys = ResolvedJob(bench, job(changes))
    assert keys.validation is not None
    np.testing.assert_array_equal(keys.validation.images, 255 - keys.train.images)
    assert keys.validation_subset == 0
    capped = ResolvedJob(bench, job({"validation": {"name": "photos@invert", "split": "train"}}))
    assert (len(capped.validation or ()), capped.validation_subset) == (18_360, 10_000)


def test_validating_on_the_ood_set_of_the_pair_is_refused(tmp_path: Path) -> None:
    bench = Bench(Store(tmp_path / "s"), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    outcome = perform(bench, job({"validation": {"name": "photos", "split": "train"}}))
    assert [str(error) for error in outcome.failures] == [
        "photos, declared as outliers or for validation, is the OOD set of the pair; declare"
        " another set in the recipe"
    ]
