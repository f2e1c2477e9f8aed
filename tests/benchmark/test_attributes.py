"""Attributes of a detector's classes: another value is another measurement, never its parent's."""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import oodbench
from oodbench.canonical_json import digest
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import get_pair
from oodbench.detect.attributes import own_attributes
from oodbench.detect.detector import DETECTORS, Detector, register
from oodbench.errors import PluginError
from oodbench.flow.bench import Bench
from oodbench.flow.keys import configuration, fit_keys, measure_key, run_key, score_key
from oodbench.flow.plan import Job, parse_detector
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.progress import Progress
from oodbench.store.store import Store


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_objects", "_origins"):
        monkeypatch.setattr(DETECTORS, name, dict(getattr(DETECTORS, name)))


class Quantile(Detector):
    q = 0.5

    def measure(self, images: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"value": images.double().flatten(1).quantile(self.q, dim=1)}

    def score(self, statistics: dict[str, np.ndarray]) -> np.ndarray:  # type: ignore[override]
        return statistics["value"]


def test_each_subclass_is_measured_by_its_own_value(tmp_path: Path) -> None:
    for q in (0.5, 0.9):
        register(f"quantile-{q}")(type("Mine", (Quantile,), {"q": q, "__module__": __name__}))
    names = ["quantile-0.5", "quantile-0.9"]
    frame = oodbench.run("china-flower", names, store=str(tmp_path / "store"), quiet=True)
    found = frame[frame.metric == "auroc"].set_index("detector").value
    pair = oodbench.load_pair("china-flower")
    for name, q in zip(names, (50, 90), strict=True):
        inside, outside = (
            np.percentile(s.images.reshape(len(s), -1), q, axis=1)
            for s in (pair.id_test, pair.ood_test)
        )
        above = (outside[:, None] > inside).mean() + 0.5 * (outside[:, None] == inside).mean()
        # Of the larger side a run takes a subset.
        assert found[name] == pytest.approx(100 * above, abs=1.5)
    assert abs(found[names[0]] - found[names[1]]) > 4


def keys_of(cls: type[Detector], name: str, tmp_path: Path) -> list[str]:
    register(name)(cls)
    bench = Bench(Store(tmp_path), DataPlaces((), tmp_path / "c"), Progress("quiet"), "cpu")
    pair = get_pair("digits-photos")
    job = ResolvedJob(bench, Job(parse_detector(name), "digits", (pair,), "smoke", 0))
    ood = job.ood(pair)
    keys = [*fit_keys(job), measure_key(job, ood), score_key(job, ood), run_key(job, ood)]
    return [*(key.digest for key in keys), configuration(job, ood)]


def test_an_edited_value_is_in_every_key_that_it_can_move(tmp_path: Path) -> None:
    class Learner(Quantile):
        def fit(self, train: object, context: object) -> None:
            pass

    found = [
        keys_of(type("L", (Learner,), {"q": q, "__module__": __name__}), "learner", tmp_path)
        for q in (0.1, 0.2, 0.1)
    ]
    assert found[0] == found[2]
    assert not set(found[0]) & set(found[1])


def test_declarations_and_methods_are_no_attributes(tmp_path: Path) -> None:
    class Plain(Quantile):
        title = "Another"
        cite = "nobody"
        cost = "f"
        one_sided = "more bright"
        measure_revision = 4

        def helper(self) -> None: ...

        @property
        def shown(self) -> int:
            return 1

        @staticmethod
        def other() -> None: ...

        log = logging.getLogger("mine")
        numpy = np

    assert own_attributes(Plain) == {"q": 0.5}
    assert own_attributes(Detector) == {}


def test_values_of_every_kind_have_a_form_of_their_own() -> None:
    @dataclass(frozen=True)
    class Window:
        side: int

    class Mode(enum.Enum):
        A = 1

    values = [
        None, True, 1, "1", 0.25, float("nan"), float("inf"), 1j, b"1", [1, 2], (1, [2, 3]),
        {1, 2}, {"a": 1}, {1: "a"}, np.arange(3), np.arange(3.0), np.arange(3)[None],
        torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16), torch.tensor(3.0), np.float32(2.5),
        Window(3), Window(4), Mode.A, Path("a"), torch.float64, int, np.ndarray, range(3),
        torch.tanh, torch.relu, partial(torch.clamp, min=0), partial(torch.clamp, min=1),
        torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), slice(3), ...,
    ]  # fmt: skip
    forms = [
        digest(own_attributes(type("A", (Detector,), {"v": v, "__module__": "mine"})))
        for v in values
    ]
    assert len(set(forms)) == len(values)
    again = [
        digest(own_attributes(type("B", (Detector,), {"v": v, "__module__": "mine"})))
        for v in values
    ]
    assert forms == again


def test_what_cannot_be_written_down_is_refused_by_name() -> None:
    for value in (SimpleNamespace(a=object()), object(), np.array([object()])):
        cls = type("A", (Detector,), {"thing": value, "__module__": "mine"})
        with pytest.raises(
            PluginError, match=r"A: the class attribute 'thing' is .* set it in __in"
        ):
            own_attributes(cls)


def test_the_value_that_counts_is_the_one_that_self_would_give() -> None:
    class Over(Quantile):
        q = 0.7
        q_of_base = 3

    class Again(Over):
        def q_of_base(self) -> int:  # type: ignore[override]
            return 4

    assert own_attributes(Over) == {"q": 0.7, "q_of_base": 3}
    assert own_attributes(Again) == {"q": 0.7}


def test_built_in_detectors_have_none_and_a_plug_in_s_form_of_them_has_what_it_sets() -> None:
    for name in DETECTORS.names():
        cls = DETECTORS.get(name)
        if cls.__module__.startswith("oodbench."):
            assert own_attributes(cls) == {}, name

    from oodbench.baselines.features import FeatureDistances

    class Mine(FeatureDistances):
        neighbours = 3

    assert own_attributes(Mine) == {"neighbours": 3}
