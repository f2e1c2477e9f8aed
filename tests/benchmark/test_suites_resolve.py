"""Every suite resolves at every scale, and what it runs answers every row of its layout."""

from __future__ import annotations

from importlib.resources import files
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import yaml

from oodbench.canonical_json import JSON
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import registered_pairs
from oodbench.declare.layout_files import find_layout
from oodbench.declare.recipes import SCALES
from oodbench.detect.detector import DETECTORS
from oodbench.flow.bench import Bench
from oodbench.flow.keys import configuration, run_key
from oodbench.flow.plan import Job
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.flow.selection import choose
from oodbench.flow.suites import find_suite, suite_names
from oodbench.leaderboards.rows import Group
from oodbench.progress import Progress
from oodbench.store.store import Entry, Store
from oodbench.tables.sources.reported_scores import Papers
from oodbench.tables.sources.results import Results

GREY = ("fashionmnist", "mnist", "kmnist", "notmnist", "omniglot", "smallnorb")
COLOUR = ("cifar10", "cifar100", "svhn", "celeba", "places365", "flower102", "lfwpeople",
          "food101", "tiny-imagenet", "textures-openood", "tiny-imagenet-openood",
          "places365-openood")  # fmt: skip
#: In the papers' tables for its published number alone.
NOT_HERE = {"idecode"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Every data set of the papers, 16 random images a split."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for name in (*GREY, *COLOUR):
        shape = (16, 28, 28) if name in GREY else (16, 32, 32, 3)
        for split in ("train", "test"):
            images = generator.integers(0, 256, shape, dtype=np.uint8)
            np.savez(folder / f"{name}-{split}.npz", images=images, labels=np.arange(16) % 10)
    cache = tmp_path_factory.mktemp("cache")
    return Bench(Store(cache / "store"), DataPlaces((folder,), cache), Progress("quiet"), "cpu")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [name for name in suite_names() if name != "embedded"])
def test_every_suite_resolves_and_fills_its_table(name: str, scale: str, bench: Bench) -> None:
    jobs = choose(suite=name, scale=scale).jobs([0])
    known = [group for job in jobs for group in planned(bench, job)]
    layout = find_suite(name).layout
    results = Results(known, scale)
    asked = list(find_layout(layout).queries()) if layout else []
    empty = {
        (query["pair"], query["detector"], query.get("recipe"), query.get("layers"))
        for query in asked
        if query["detector"] in DETECTORS.names() and results.find(query) is None
    }
    assert not empty, "rows that no run of the suite can fill"
    assert {q["detector"] for q in asked if q["detector"] not in DETECTORS.names()} <= NOT_HERE


@pytest.mark.parametrize(
    ("detector", "pair", "score", "value"),
    [
        ("lvae", "fashionmnist-notmnist", "LLR_ada", 94.0),
        ("biva", "fashionmnist-notmnist", "LLR_ada", 96.4),
        ("lvae", "cifar10-svhn", "LLR>2", 80.1),
        ("biva", "cifar10-svhn", "L", 13.3),
        ("biva", "cifar10-svhn", "LLR_ada", 86.3),
    ],
)
def test_the_papers_number_stands_beside_runs_of_the_default_recipe(
    detector: str, pair: str, score: str, value: float, bench: Bench
) -> None:
    (job,) = choose([pair], detectors=[detector], scale="small").jobs([0])
    (group,) = planned(bench, job)
    found = Papers().auroc(group, score)
    assert found is not None
    assert found.number.value == value


def planned(bench: Bench, job: Job) -> list[Group]:
    """What the runs of a job would be found by, once all their keys are known to exist."""
    keys = ResolvedJob(bench, job)
    found = []
    for pair in job.pairs:
        ood = keys.ood(pair)
        assert run_key(keys, ood).digest
        assert configuration(keys, ood)
        record: dict[str, JSON] = {
            "created": "", "pair": pair.name, "in_dist": pair.in_dist, "ood": pair.ood,
            "detector": keys.detector.name, "scale": keys.recipe.scale if keys.recipe else "",
            "recipe": keys.recipe.name if keys.recipe else "",
            "layers": int(getattr(keys.detector, "layers", 0)), "configuration": "a" * 64,
        }  # fmt: skip
        found.append(Group(record, [cast(Entry, SimpleNamespace(record=record))]))
    return found


def test_a_pair_names_the_tables_that_hold_it() -> None:
    """`tables` of pairs.yaml is what the layouts of the paper's tables select."""
    held: dict[str, list[int]] = {}

    def walk(part: object, number: int) -> None:
        if isinstance(part, dict):
            pair = (part.get("select") or {}).get("pair")
            if pair and number not in held.setdefault(str(pair), []):
                held[str(pair)].append(number)
            for value in part.values():
                walk(value, number)
        elif isinstance(part, list):
            for value in part:
                walk(value, number)

    for number in range(1, 17):
        text = files("oodbench.declare") / "layouts" / f"table{number}.yaml"
        walk(yaml.safe_load(text.read_text(encoding="utf-8")), number)
    found = {name: list(pair.tables) for name, pair in registered_pairs().items() if pair.tables}
    assert found == held
