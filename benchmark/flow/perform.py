"""Doing a job: fit, measure, score and rank, each step found in the store or made once.

A job is one detector on one ID set with one seed, against the OOD sets of its pairs.  Its steps
are entries of the store, keyed by what made them; the ID test split is measured once for all
pairs.  torch is imported only when something has to be trained or measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from oodbench.canonical_json import JSON
from oodbench.datasets.pairs import Pair
from oodbench.detect.detector import Detector
from oodbench.detect.entitlement import WITH_LABELS
from oodbench.detect.source_fingerprints import source_record
from oodbench.errors import DataError, OodbenchError, PluginError, plugin_contract
from oodbench.flow.fit import attach, peak_memory_mb, prepare
from oodbench.flow.keys import EQUAL_SIZE_SEED, Bench, JobKeys, subset_indices
from oodbench.flow.plan import Job, column_name
from oodbench.flow.run_records import (
    chosen,
    cost,
    duplicates,
    fit_notes,
    notes,
    reference_notes,
    results,
)
from oodbench.store.store import DamagedEntryError, Entry, Key

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet

ATTEMPTS = 4
T = TypeVar("T")


@dataclass
class Outcome:
    """Run entries of a job's pairs, and what went wrong with the others."""

    entries: list[Entry] = field(default_factory=list)
    failures: list[OodbenchError] = field(default_factory=list)


def perform(bench: Bench, job: Job) -> Outcome:
    """The run entries of a job's pairs, made where they are missing.

    A pair that cannot be done does not stop the others.  A damaged entry met on the way is set
    aside by the store and made again.
    """
    try:
        return _mended(lambda: _Evaluation(bench, job).outcome())
    except DamagedEntryError:
        raise
    except OodbenchError as error:
        return Outcome([], [error])


@dataclass(frozen=True)
class Learned:
    """What a job knows of its ID set: the scores of the ID test images, and the entries behind.

    `fits` in the order of `JobKeys.fits`; `compared` are the statistics that its scores compare
    with, by what they are: ``reference`` for `calibrate`, ``inside`` and ``outside`` for `choose`.
    """

    keys: JobKeys
    scores: Mapping[str, np.ndarray]
    measurement: Key
    fits: Sequence[tuple[Key, bytes]]
    compared: Mapping[str, Mapping[str, np.ndarray]]


def learn(bench: Bench, job: Job) -> Learned:
    """Everything of a job but its OOD sets, made where it is missing."""
    return _mended(lambda: _Evaluation(bench, job).learned())


@dataclass(frozen=True)
class HeldOut:
    """Scores (n,) of ID images that no fit has seen; `split` of `JobKeys.held_out`, `dims` = D."""

    scores: Mapping[str, np.ndarray]
    split: str
    dims: int


def score_held_out(bench: Bench, job: Job) -> HeldOut:
    """The held-out ID images of a job, measured and scored where that is missing."""
    return _mended(lambda: _Evaluation(bench, job).held_out())


def _mended(make: Callable[[], T]) -> T:
    """What `make` gives, once more where it meets a damaged entry, which is then set aside."""
    for _ in range(ATTEMPTS - 1):
        with suppress(DamagedEntryError):
            return make()
    return make()


class _Evaluation:
    def __init__(self, bench: Bench, job: Job) -> None:
        self.bench, self.job, self.store = bench, job, bench.store
        self.keys = JobKeys(bench, job)
        self.detector = self.keys.detector
        self._attached = False

    def outcome(self) -> Outcome:
        """One run entry per pair; data are checked before anything is trained."""
        out = Outcome()
        ready: list[tuple[Pair, ImageSet]] = []
        for pair in self.job.pairs:
            try:
                ready.append((pair, self.keys.ood(pair)))
            except DataError as error:
                out.failures.append(error)
        for pair, ood in ready:
            key = self.keys.run_key(ood)
            try:
                out.entries.append(self.store.find(key) or self._run(key, pair, ood))
            except DamagedEntryError:
                raise
            except OodbenchError as error:
                out.failures.append(error)  # the next pair would meet it again
                break
        return out

    def learned(self) -> Learned:
        """The ID side, with the files of fits read and checked."""
        from oodbench.store.payload import unpack_table

        keys, fits = self.keys, []
        self._attach()
        scores = self._scores(keys.test).parse("scores.parquet", unpack_table)
        for key in keys.fit_keys() if keys.has_fit else []:
            entry = self.store.find(key)
            if entry is None:
                raise DamagedEntryError(f"{key.path} is gone")
            file = "state" if keys.recipe is None else "weights"
            fits.append((key, entry.read(f"{file}.safetensors")))
        measurement = keys.measure_key(keys.test, keys.subset(keys.test))
        return Learned(keys, scores, measurement, fits, self._compared())

    def held_out(self) -> HeldOut:
        """The scores of the held-out ID images."""
        from oodbench.store.payload import unpack_table

        images = self.keys.held_out
        scores = self._scores(images).parse("scores.parquet", unpack_table)
        return HeldOut(scores, images.split, images.dims)

    def _obtain(self, key: Key, make: Callable[[Key], Entry]) -> Entry:
        return self.store.obtain(key, make, self.bench.on_wait)

    def _attach(self) -> None:
        if not self._attached:
            attach(self.keys)
            self._attached = True

    def _measurement(self, images: ImageSet, subset: int = 0) -> Entry:
        key = self.keys.measure_key(images, subset)

        def make(key: Key) -> Entry:
            import numpy as np
            import torch

            from oodbench.flow.measuring import measure
            from oodbench.store.payload import pack_table, pack_tensors
            from oodbench.store.provenance import machine_record
            from oodbench.train.devices import pick_device, tune_allocator

            tune_allocator()
            self._attach()
            images.verify()
            device = pick_device(self.bench.device)
            indices = np.arange(len(images))
            if subset:
                indices = subset_indices(len(images), subset)
            started = time.monotonic()
            measured = measure(
                self.detector,
                images.images,
                indices,
                seed=self.job.seed,
                device=device,
                batch_size=self.bench.batch_size or (100 if device == "cpu" else 500),
                scratch=self.store.scratch(key),
                progress=self.bench.progress,
                label=f"measure {images.name} {images.split}",
            )
            seconds = time.monotonic() - started
            table = {"index": indices.astype(np.int64)} | measured.statistics
            totals = {name: torch.from_numpy(v) for name, v in measured.totals.items()}
            files = {"statistics.parquet": pack_table(table)}
            if totals:
                files["totals.safetensors"] = pack_tensors(totals)
            record: dict[str, JSON] = {
                "name": f"{self.job.label}: {images.name} {images.split}",
                "images": len(indices),
                "seconds": seconds,
                "ms_per_image": 1000 * seconds / max(1, len(indices)),
                "peak_memory_mb": peak_memory_mb(device),
                "machine": machine_record(device),
            }
            entry = self.store.write(key, files, record)
            self.store.discard_scratch(key)
            return entry

        return self._obtain(key, make)

    def _statistics(self, entry: Entry) -> dict[str, np.ndarray]:
        from oodbench.store.payload import unpack_table

        table = entry.parse("statistics.parquet", unpack_table)
        table.pop("index")
        return table

    def _scores(self, images: ImageSet) -> Entry:
        def make(key: Key) -> Entry:
            import numpy as np

            from oodbench.store.payload import pack_table

            choice: dict[str, JSON] = {}
            if self.detector.scores_with_models:
                self._attach()
            chosen = prepare(self.detector, self._compared())
            if chosen is not None and (validation := self.keys.validation) is not None:
                choice = {"choice": chosen, "validation": f"{validation.name} {validation.split}"}
            statistics = self._statistics(self._measurement(images, self.keys.subset(images)))
            with plugin_contract(self.detector, "scores"):
                scored = self.detector.scores(statistics)
            columns, count = {}, self.keys.count(images)
            for name, values in scored.items():
                scores = np.asarray(values, dtype=np.float64)
                if scores.shape != (count,):
                    raise PluginError(
                        f"{self.detector.name}: score {name!r} has shape {scores.shape}; expected"
                        f" ({count},)"
                    )
                columns[column_name(name)] = scores
            record: dict[str, JSON] = {"name": f"{self.job.label}: {images.name}", **choice}
            return self.store.write(key, {"scores.parquet": pack_table(columns)}, record)

        return self._obtain(self.keys.score_key(images), make)

    def _compared(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """What the scores compare with, measured where it is missing (`Learned.compared`)."""
        keys, found = self.keys, {}
        if self.detector.calibrates() or keys.validation is not None:
            training = self._measurement(keys.train, keys.train_subset)
            inside = self._statistics(training)
        if self.detector.calibrates():
            found["reference"] = inside | self._labels(keys.train, training)
        if keys.validation is not None:
            outside = self._measurement(keys.validation, keys.validation_subset)
            found |= {"inside": inside, "outside": self._statistics(outside)}
        return found

    def _run(self, key: Key, pair: Pair, ood: ImageSet) -> Entry:
        from oodbench.rank.metrics import equal_size
        from oodbench.store.payload import unpack_table

        id_entry, ood_entry = self._scores(self.keys.test), self._scores(ood)
        id_scores = id_entry.parse("scores.parquet", unpack_table)
        ood_scores = ood_entry.parse("scores.parquet", unpack_table)
        counts = self.keys.count(self.keys.test), self.keys.count(ood)
        id_index, ood_index = equal_size(*counts, EQUAL_SIZE_SEED)
        scored = results(self.detector, id_scores, ood_scores, id_index, ood_index)
        record: dict[str, JSON] = {
            "pair": pair.name,
            "in_dist": pair.in_dist,
            "ood": pair.ood,
            "detector": self.detector.name,
            "title": self.detector.title,
            "category": self.detector.category,
            "cite": self.detector.cite,
            "seed": self.job.seed,
            "configuration": self.keys.configuration(ood),
            "source": source_record(self.detector, self.keys.recipe),
            "recipe": self.keys.recipe.name if self.keys.recipe else "",
            "scale": self.keys.recipe.scale if self.keys.recipe else "",
            "variant": self.keys.recipe.variant if self.keys.recipe else "",
            "layers": self.layers,
            "n": len(id_index),
            "available": {"id": counts[0], "ood": counts[1]},
            "reference": self.keys.train_subset if self.keys.compares else 0,
            "notes": [
                *fit_notes(self.keys),
                *reference_notes(self.keys),
                *(note for images in (self.keys.test, ood) for note in notes(self.keys, images)),
                *chosen(self.detector, id_entry.record),
            ],
            "duplicates": [*duplicates(self.keys, ood)],
            "scores": scored,
            "score_order": list(scored),
            "diagnostics": self._diagnostics(ood),
            "cost": cost(self.keys),
        }
        return self.store.write(key, {}, record)

    @property
    def layers(self) -> int:
        """Depth of a hierarchical model, 0 where there is none."""
        return int(getattr(self.detector, "layers", 0))

    def _diagnostics(self, ood: ImageSet) -> dict[str, JSON]:
        if type(self.detector).diagnose is Detector.diagnose:
            return {}
        found: dict[str, JSON] = {}
        for name, images in (("id_test", self.keys.test), ("ood_test", ood)):
            measured = self._measurement(images, self.keys.subset(images))
            found[name] = self._diagnose(images, measured)
        if self.detector.diagnose_training:
            train = self._measurement(self.keys.train, self.keys.train_subset)
            found["id_train"] = self._diagnose(self.keys.train, train)
        return found

    def _labels(self, images: ImageSet, entry: Entry) -> dict[str, np.ndarray]:
        """Labels of the measured ID images under ``label``, where the detector may have them."""
        own = images is self.keys.test or images is self.keys.train
        if not own or images.labels is None or self.detector.category not in WITH_LABELS:
            return {}
        from oodbench.store.payload import unpack_table

        index = entry.parse("statistics.parquet", unpack_table)["index"]
        labels = images.labels[index.astype(int)]
        return {"label": self.keys.numbered(labels, self.keys.recipe)}

    def _diagnose(self, images: ImageSet, entry: Entry) -> dict[str, JSON]:
        from oodbench.store.payload import unpack_tensors

        totals = {}
        if "totals.safetensors" in cast("Mapping[str, JSON]", entry.record["files"]):
            stored = entry.parse("totals.safetensors", unpack_tensors)
            totals = {name: value.numpy() for name, value in stored.items()}
        known = self._statistics(entry) | self._labels(images, entry)
        return self.detector.diagnose(known, totals, self.keys.test.shape)
