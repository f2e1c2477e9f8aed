"""The store keys of a broad set of jobs, recorded, so that no move of code moves a key.

    python tests/benchmark/record_keys.py        # writes recorded_keys.json anew

A key may change only where a measured value does, by a new revision; then the file is written
anew, and the difference of its lines says what is made again.  Recorded are

    recipe   every recipe × scale × variant: what its fits and measurements are keyed by
    job      every detector on scikit-learn's digits, classes and corruptions of them, two seeds,
             with companions, members, labels and declared sets: fits, measurements, scores, runs;
             not those whose keys hold the version of a library
    sweep    jobs whose recipe has overrides
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.loading import DataPlaces
from oodbench.datasets.pairs import get_pair
from oodbench.declare.recipes import recipe_files, resolve
from oodbench.detect.detector import DETECTORS
from oodbench.errors import OodbenchError
from oodbench.flow.bench import Bench
from oodbench.flow.keys import configuration, fit_keys, measure_key, run_key, score_key
from oodbench.flow.plan import Job, parse_detector
from oodbench.flow.resolved_job import ResolvedJob
from oodbench.progress import Progress
from oodbench.store.store import Store

RECORDED = Path(__file__).with_name("recorded_keys.json")
#: Pairs whose pixels no library computes: scikit-learn's digits, their classes, drawn pixels.
PAIRS = ("digits[0-4]-digits[5-9]", "digits-digits@invert", "digits@invert-digits[3,5]")


def recipe_keys() -> Iterator[tuple[str, list[str]]]:
    """`recipe NAME SCALE VARIANT` and the digests of what keys hold of it."""
    for name, file in sorted(recipe_files().items()):
        for scale in file.scales:
            for variant in file.variants:
                try:
                    recipe = resolve(file, scale, variant)
                except OodbenchError:
                    continue
                measure = recipe.measure.model_dump(mode="json")
                found = [digest(recipe.fit_parts()), digest(measure)]
                yield f"recipe {name} {scale} {variant or '-'}", found


def job_keys(cache: Path) -> Iterator[tuple[str, list[str]]]:
    """`job DETECTOR PAIR SEED` and the digests of its fits, measurements, scores and run."""
    bench = Bench(Store(cache / "store"), DataPlaces((), cache), Progress("quiet"), "cpu")
    for name in sorted(DETECTORS.names()):
        if not DETECTORS.get(name).__module__.startswith("oodbench."):
            continue
        for pair_name in PAIRS:
            for seed in (0, 1):
                pair = get_pair(pair_name)
                job = Job(parse_detector(name), pair.in_dist, (pair,), "smoke", seed)
                keys = ResolvedJob(bench, job)
                if not keys.detector.environment():
                    yield f"job {name} {pair_name} {seed}", _of_job(keys)


def _of_job(keys: ResolvedJob) -> list[str]:
    ood = keys.ood(keys.pairs[0])
    measured = [(keys.test, keys.subset(keys.test)), (ood, keys.subset(ood)), *keys.compared()]
    found = [key.digest for key in (fit_keys(keys) if keys.has_fit else [])]
    found += [measure_key(keys, images, subset).digest for images, subset in measured]
    found += [score_key(keys, keys.test).digest, score_key(keys, ood).digest]
    return [*found, run_key(keys, ood).digest, configuration(keys, ood)]


def sweep_keys(cache: Path) -> Iterator[tuple[str, list[str]]]:
    """`sweep N` and the keys of the jobs of overridden latent sizes."""
    bench = Bench(Store(cache / "store"), DataPlaces((), cache), Progress("quiet"), "cpu")
    pair = get_pair(PAIRS[0])
    changes: tuple[dict[str, JSON], ...] = (
        {"training": {"lr": 0.01}}, {"training": {"epochs": 3}},
        {"measure": {"importance_samples": 7}},
    )  # fmt: skip
    for number, overrides in enumerate(changes):
        for name in ("vanilla-hvae", "glow"):
            job = Job(parse_detector(name), pair.in_dist, (pair,), "smoke", 0, overrides=overrides)
            yield f"sweep {name} {number}", _of_job(ResolvedJob(bench, job))


def recorded() -> dict[str, list[str]]:
    """All of them, as they are now."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        found = [*recipe_keys(), *job_keys(cache), *sweep_keys(cache)]
    return {name: [key[:16] for key in keys] for name, keys in found}


if __name__ == "__main__":
    found = recorded()
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(keys)}" for name, keys in found.items())
    RECORDED.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    sys.stdout.write(f"{len(found)} recorded\n")
