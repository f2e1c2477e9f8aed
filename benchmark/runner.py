"""Doing a job: fit, measure, score and rank, each step found in the store or made once.

A job is one detector on one ID set with one seed, against the OOD sets of its pairs.  Its steps
are entries of the store, keyed by what made them; the ID test split is measured once for all
pairs.  torch is imported only when something has to be trained or measured.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

from oodbench.canonical import JSON, digest
from oodbench.datasets.loading import DataPlaces, check_compatible, load
from oodbench.detector import Detector, FitContext, wants_noise
from oodbench.errors import DataError, OodbenchError, PluginError, plugin_contract
from oodbench.pairs import Pair
from oodbench.plan import Job, column_name, make_detector
from oodbench.progress import Progress
from oodbench.sourcecode import source_record
from oodbench.store import DamagedEntryError, Entry, Key, Store

if TYPE_CHECKING:
    import numpy as np

    from oodbench.datasets.imageset import ImageSet
    from oodbench.datasets.spec import DatasetName
    from oodbench.recipes import Recipe

METRICS_REVISION = 2
EQUAL_SIZE_SEED = 0
DIAGNOSE_IMAGES = 10_000
ATTEMPTS = 4


@dataclass(frozen=True)
class Bench:
    """Where things are and how to run; nothing here can change a result on the CPU."""

    store: Store
    places: DataPlaces
    progress: Progress = field(default_factory=Progress)
    device: str = "auto"
    compile: bool = False
    batch_size: int | None = None
    checkpoint_seconds: float = 60.0


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
    for attempt in range(ATTEMPTS):
        try:
            return _Evaluation(bench, job).outcome()
        except DamagedEntryError:
            if attempt == ATTEMPTS - 1:
                raise
        except OodbenchError as error:
            return Outcome([], [error])
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class Step:
    """Something that a job lacks; steps with one `key` are one step.

    `images`: to be trained on (with repetition) or to be measured.  `seconds`: what that takes by
    the speed of a stored fit of the same recipe, None where there is none.
    """

    key: str
    text: str
    images: int = 0
    seconds: float | None = None


def missing_steps(bench: Bench, job: Job) -> list[Step]:
    """What `perform` would have to make: "fit …", "measure …", "rank …"; makes nothing."""
    return _Evaluation(bench, job).missing()


@dataclass(frozen=True)
class Fit:
    """One thing to learn: a recipe's model, or the detector itself where there is no recipe."""

    recipe: Recipe | None
    seed: int
    label: str


class _Evaluation:
    def __init__(self, bench: Bench, job: Job) -> None:
        from oodbench.datasets.spec import parse_name

        self.bench, self.job, self.store = bench, job, bench.store
        self.name: DatasetName = parse_name(job.in_dist)
        self.test = self._load(job.in_dist, "test")
        self.detector, self.recipe = make_detector(job, self.test.shape)
        self.noisy = wants_noise(type(self.detector))
        self._attached = False

    # ------------------------------------------------------------------ data
    def _load(self, name: str, split: str) -> ImageSet:
        own = name == self.job.in_dist
        like = None if own else self.test.shape
        return load(name, split, self.bench.places, like=like, divide=own)

    @cached_property
    def train(self) -> ImageSet:
        """The ID training split."""
        return self._load(self.job.in_dist, "train")

    @property
    def train_subset(self) -> int:
        """How many training images are measured, for diagnostics and for `calibrate`."""
        return min(len(self.train), self.count(self.test), DIAGNOSE_IMAGES)

    def count(self, images: ImageSet) -> int:
        """How many images of a test split are measured: all, or the recipe's `max_images`."""
        limit = self.recipe.measure.max_images if self.recipe is not None else None
        return len(images) if limit is None else min(limit, len(images))

    def subset(self, images: ImageSet) -> int:
        """The size of the seeded subset that is measured, 0 where it is the whole split."""
        count = self.count(images)
        return count if count < len(images) else 0

    @cached_property
    def has_fit(self) -> bool:
        """Whether anything is learned."""
        return self.recipe is not None or type(self.detector).learns()

    # ------------------------------------------------------------------ keys
    def member_seed(self, member: int) -> int:
        """Training seed of a member: those of one run are disjoint from those of the next seed."""
        return self.job.seed * self.detector.members + member

    @cached_property
    def fits(self) -> list[Fit]:
        """Everything that is learned: the members, then the companions."""
        count = self.detector.members
        labels = [self.job.label] * count
        if count > 1:
            labels = [f"{self.job.label}, member {m + 1} of {count}" for m in range(count)]
        out = [Fit(self.recipe, self.member_seed(m), label) for m, label in enumerate(labels)]
        return out + [
            Fit(recipe, self.job.seed, f"{self.job.label}, {recipe.variant}")
            for recipe in self.detector.companion_recipes
        ]

    def fit_keys(self) -> list[Key]:
        """The key of every fit."""
        return [self.fit_key(fit) for fit in self.fits]

    def fit_key(self, fit: Fit) -> Key:
        """Model or detector, recipe, training images, seed."""
        parts: dict[str, JSON]
        if fit.recipe is not None:
            parts = fit.recipe.fit_parts()
        else:
            parts = {"detector": self.detector.name, "revision": self.detector.revision}
            if self.detector.category == "labels":
                from oodbench.datasets.imageset import label_fingerprint

                parts["labels"] = label_fingerprint(self.train.labels)
        parts |= {"train": self.train.fingerprint, "seed": fit.seed}
        return Key("fit", parts)

    def measure_key(self, images: ImageSet, subset: int = 0) -> Key:
        """What is measured, how, with which fit; `subset` > 0: a seeded subset of that size."""
        parts: dict[str, JSON] = {
            "measure": self.detector.measure_name,
            "revision": self.detector.revision,
            "images": images.fingerprint,
            "subset": subset,
            "fits": [key.digest for key in self.fit_keys()] if self.has_fit else [],
        }
        if self.recipe is not None:
            parts["settings"] = self.recipe.measure.model_dump(mode="json")
        environment = self.detector.environment()
        if environment:
            parts["environment"] = dict(environment)
        if self.noisy:
            parts["seed"] = self.job.seed
        return Key("measure", parts)

    def score_key(self, images: ImageSet) -> Key:
        """The detector's score functions on one measurement."""
        parts: dict[str, JSON] = {
            "detector": self.detector.name,
            "revision": self.detector.revision,
            "measure": self.measure_key(images, self.subset(images)).digest,
        }
        if self.detector.calibrates():
            parts["reference"] = self.measure_key(self.train, self.train_subset).digest
        return Key("score", parts)

    def run_key(self, ood: ImageSet) -> Key:
        """Scores of both sides and how they are compared."""
        return Key(
            "run",
            {
                "detector": self.detector.name,
                "id_scores": self.score_key(self.test).digest,
                "ood_scores": self.score_key(ood).digest,
                "metrics": {"revision": METRICS_REVISION, "equal_size_seed": EQUAL_SIZE_SEED},
            },
        )

    # ------------------------------------------------------------------ steps
    def outcome(self) -> Outcome:
        """One run entry per pair; data are checked before anything is trained."""
        out = Outcome()
        ready: list[tuple[Pair, ImageSet]] = []
        for pair in self.job.pairs:
            try:
                ready.append((pair, self._ood(pair)))
            except DataError as error:
                out.failures.append(error)
        for pair, ood in ready:
            key = self.run_key(ood)
            try:
                out.entries.append(self.store.find(key) or self._run(key, pair, ood))
            except DamagedEntryError:
                raise
            except OodbenchError as error:
                out.failures.append(error)  # the next pair would meet it again
                break
        return out

    def _ood(self, pair: Pair) -> ImageSet:
        ood = self._load(pair.ood, "test")
        check_compatible(self.test, ood)
        return ood

    def missing(self) -> list[Step]:
        """Steps whose entries are not in the store."""
        keyed = [(self.fit_key(fit), fit) for fit in self.fits] if self.has_fit else []
        steps = [self._missing_fit(key, fit) for key, fit in keyed if self.store.find(key) is None]
        for pair in self.job.pairs:
            ood = self._ood(pair)
            for images in (self.test, ood):
                key = self.measure_key(images, self.subset(images))
                if self.store.find(key) is None:
                    text = f"measure {images.name} with {self.job.label}"
                    steps.append(Step(key.digest, text, self.count(images)))
            key = self.run_key(ood)
            if self.store.find(key) is None:
                steps.append(Step(key.digest, f"rank {self.job.label} on {pair.name}"))
        return list({step.key: step for step in steps}.values())

    def _missing_fit(self, key: Key, fit: Fit) -> Step:
        if fit.recipe is None:
            return Step(key.digest, f"fit {fit.label}", len(self.train))
        training, recipe = fit.recipe.training, (fit.recipe.label, fit.recipe.variant)
        images = training.epochs * (training.epoch_images or training.max_images or len(self.train))
        speeds = [
            float(cast(float, entry.record["images_per_second"]))
            for entry in self.store.entries("fit")
            if (entry.record.get("recipe"), entry.record.get("variant")) == recipe
        ]
        seconds = images / speeds[-1] if speeds else None
        return Step(key.digest, f"fit {fit.label}", images, seconds)

    def _made(self, key: Key, make: Callable[[Key], Entry]) -> Entry:
        """The entry of a key: found, or made under the key's lock by `make(key)`."""
        entry = self.store.find(key)
        if entry is not None:
            return entry
        with self.store.lock(key, self.bench.progress.say):
            return self.store.find(key) or make(key)

    def _fit(self, key: Key, fit: Fit) -> Entry:
        from oodbench.payload import pack_tensors
        from oodbench.provenance import machine_record
        from oodbench.training import Runtime, log_csv, pick_device, train

        device = pick_device(self.bench.device)
        self.train.verify()
        scratch, progress = self.store.scratch(key), self.bench.progress
        progress.say(f"training {fit.label} ({len(self.train):,} images, {device})")
        started = time.monotonic()
        recipe = fit.recipe
        if recipe is None:
            context = FitContext(device, self.job.seed, progress.say, scratch)
            images = self.train
            if self.detector.category != "labels":
                images = images.without_labels()
            with plugin_contract(self.detector, "fit"):
                self.detector.fit(images, context)
            files = {"state.safetensors": pack_tensors(self.detector.state_dict())}
            record: dict[str, JSON] = {"seconds": time.monotonic() - started}
        else:
            runtime = Runtime(device, self.bench.compile, self.bench.checkpoint_seconds)
            model, run = train(
                lambda: recipe.build(self.test.shape),
                self.train.images,
                recipe.training,
                seed=fit.seed,
                scratch=scratch,
                runtime=runtime,
                progress=progress,
            )
            files = {
                "weights.safetensors": pack_tensors(model.state_dict()),
                "log.csv": log_csv(run.rows),
            }
            record = {
                "seconds": run.seconds,
                "resumed": run.resumed,
                "images_per_second": run.step * recipe.training.batch_size / run.seconds,
                "parameters": sum(p.numel() for p in model.parameters()),
                "recipe": recipe.label,
                "variant": recipe.variant,
            }
        record |= {
            "name": fit.label,
            "in_dist": self.train.name,
            "train_images": len(self.train),
            "peak_memory_mb": peak_memory_mb(device),
            "machine": machine_record(device),
            "source": source_record(self.detector, self.recipe),
        }
        entry = self.store.write(key, files, record)
        self.store.discard_scratch(key)
        return entry

    def _attach(self) -> None:
        """Load what was learned into the detector, once."""
        if self._attached or not self.has_fit:
            self._attached = True
            return
        from oodbench.payload import unpack_tensors
        from oodbench.training import channels_last, pick_device

        entries = [self._made(self.fit_key(fit), partial(self._fit, fit=fit)) for fit in self.fits]
        if self.recipe is None:
            state = entries[0].parse("state.safetensors", unpack_tensors)
            with plugin_contract(self.detector, "load_state_dict"):
                self.detector.load_state_dict(state)
        else:
            models = []
            for entry, fit in zip(entries, self.fits, strict=True):
                assert fit.recipe is not None
                model = fit.recipe.build(self.test.shape)
                weights = entry.parse("weights.safetensors", unpack_tensors)
                try:
                    model.load_state_dict(weights)
                except RuntimeError as error:
                    raise entry.damaged("its weights are of another model") from error
                models.append(channels_last(model.to(pick_device(self.bench.device))).eval())
            self.detector.attach(models)
        self._attached = True

    def _measurement(self, images: ImageSet, subset: int = 0) -> Entry:
        key = self.measure_key(images, subset)

        def make(key: Key) -> Entry:
            import numpy as np
            import torch

            from oodbench.measuring import measure
            from oodbench.payload import pack_table, pack_tensors
            from oodbench.provenance import machine_record
            from oodbench.training import pick_device, tune_allocator

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

        return self._made(key, make)

    def _statistics(self, entry: Entry) -> dict[str, np.ndarray]:
        from oodbench.payload import unpack_table

        table = entry.parse("statistics.parquet", unpack_table)
        table.pop("index")
        return table

    def _scores(self, images: ImageSet) -> Entry:
        def make(key: Key) -> Entry:
            import numpy as np

            from oodbench.payload import pack_table

            if self.detector.calibrates():
                reference = self._measurement(self.train, self.train_subset)
                with plugin_contract(self.detector, "calibrate"):
                    self.detector.calibrate(self._statistics(reference))
            statistics = self._statistics(self._measurement(images, self.subset(images)))
            with plugin_contract(self.detector, "scores"):
                scored = self.detector.scores(statistics)
            columns, count = {}, self.count(images)
            for name, values in scored.items():
                scores = np.asarray(values, dtype=np.float64)
                if scores.shape != (count,):
                    raise PluginError(
                        f"{self.detector.name}: score {name!r} has shape {scores.shape}; expected"
                        f" ({count},)"
                    )
                columns[column_name(name)] = scores
            record: dict[str, JSON] = {"name": f"{self.job.label}: {images.name}"}
            return self.store.write(key, {"scores.parquet": pack_table(columns)}, record)

        return self._made(self.score_key(images), make)

    def _run(self, key: Key, pair: Pair, ood: ImageSet) -> Entry:
        from oodbench.metrics import equal_size
        from oodbench.payload import unpack_table

        id_entry, ood_entry = self._scores(self.test), self._scores(ood)
        id_scores = id_entry.parse("scores.parquet", unpack_table)
        ood_scores = ood_entry.parse("scores.parquet", unpack_table)
        counts = self.count(self.test), self.count(ood)
        id_index, ood_index = equal_size(*counts, EQUAL_SIZE_SEED)
        results = self._results(id_scores, ood_scores, id_index, ood_index)
        record: dict[str, JSON] = {
            "pair": pair.name,
            "in_dist": pair.in_dist,
            "ood": pair.ood,
            "detector": self.detector.name,
            "title": self.detector.title,
            "category": self.detector.category,
            "cite": self.detector.cite,
            "seed": self.job.seed,
            "configuration": self.configuration(ood),
            "source": source_record(self.detector, self.recipe),
            "recipe": self.recipe.name if self.recipe else "",
            "scale": self.recipe.scale if self.recipe else "",
            "variant": self.recipe.variant if self.recipe else "",
            "layers": self.layers,
            "n": len(id_index),
            "available": {"id": counts[0], "ood": counts[1]},
            "notes": [note for images in (self.test, ood) for note in self._notes(images)],
            "scores": results,
            "score_order": list(results),
            "diagnostics": self._diagnostics(ood),
            "cost": self._cost(),
        }
        return self.store.write(key, {}, record)

    def _results(
        self,
        id_scores: Mapping[str, np.ndarray],
        ood_scores: Mapping[str, np.ndarray],
        id_index: np.ndarray,
        ood_index: np.ndarray,
    ) -> dict[str, JSON]:
        """Metrics of every score; a score of groups counts groups; oracle choices last."""
        from oodbench.metrics import evaluate, group_members

        found = {}
        for name, values in id_scores.items():
            members = self.detector.groups.get(name)
            if members is None:
                found[name] = evaluate(values[id_index], ood_scores[name][ood_index])
                continue
            sides = [s[group_members(len(s), members)[:, 0]] for s in (values, ood_scores[name])]
            count = min(map(len, sides))
            found[name] = evaluate(sides[0][:count], sides[1][:count])
        results = {name: metrics.to_json() for name, metrics in found.items()}
        for oracle, names in self.detector.oracles().items():
            best = max(names, key=lambda name: found[name].auroc.value)
            results[oracle] = found[best].to_json() | {"oracle": best}
        return cast("dict[str, JSON]", results)

    def _notes(self, images: ImageSet) -> list[str]:
        """What a reader has to know of the images."""
        notes = [images.note] if images.note else []
        if self.subset(images):
            notes.append(f"a seeded subset of {self.count(images):,} of {len(images):,} images")
        return [f"{images.name}: {note}" for note in notes]

    def configuration(self, ood: ImageSet) -> str:
        """Digest of everything but the seed: runs that share it are repetitions of each other."""
        parts: dict[str, JSON] = {
            "detector": self.detector.name,
            "revision": self.detector.revision,
            "metrics": METRICS_REVISION,
            "images": [self.test.fingerprint, ood.fingerprint],
        }
        if self.has_fit:
            parts["train"] = self.train.fingerprint
        if self.recipe is not None:
            parts["fit"] = self.recipe.fit_parts()
            parts["measure"] = self.recipe.measure.model_dump(mode="json")
        if self.detector.companion_recipes:
            parts["companions"] = [r.fit_parts() for r in self.detector.companion_recipes]
        return digest(parts)

    @property
    def layers(self) -> int:
        """Depth of a hierarchical model, 0 where there is none."""
        return int(getattr(self.detector, "layers", 0))

    def _diagnostics(self, ood: ImageSet) -> dict[str, JSON]:
        if type(self.detector).diagnose is Detector.diagnose:
            return {}
        found: dict[str, JSON] = {}
        for name, images in (("id_test", self.test), ("ood_test", ood)):
            found[name] = self._diagnose(self._measurement(images, self.subset(images)))
        if self.detector.diagnose_training:
            train = self._measurement(self.train, self.train_subset)
            found["id_train"] = self._diagnose(train)
        return found

    def _diagnose(self, entry: Entry) -> dict[str, JSON]:
        from oodbench.payload import unpack_tensors

        totals = {}
        if "totals.safetensors" in cast("Mapping[str, JSON]", entry.record["files"]):
            stored = entry.parse("totals.safetensors", unpack_tensors)
            totals = {name: value.numpy() for name, value in stored.items()}
        return self.detector.diagnose(self._statistics(entry), totals, self.test.shape)

    def _cost(self) -> dict[str, JSON]:
        cost: dict[str, JSON] = {"passes": self.detector.cost}
        measured = self.store.find(self.measure_key(self.test, self.subset(self.test)))
        if measured is not None:
            cost["ms_per_image"] = measured.record["ms_per_image"]
            cost["peak_memory_mb"] = measured.record["peak_memory_mb"]
        if self.has_fit:
            found = [self.store.find(key) for key in self.fit_keys()]
            fits = [fit for fit in found if fit is not None]
            if fits:
                fit = fits[0]
                for name, shown in (
                    ("images_per_second", "train_images_per_second"),
                    ("train_images", "train_images"),
                    ("parameters", "parameters"),
                ):
                    if name in fit.record:
                        cost[shown] = fit.record[name]
                cost["train_seconds"] = sum(float(cast(float, f.record["seconds"])) for f in fits)
                cost["members"] = len(fits)
                cost["device"] = cast("Mapping[str, JSON]", fit.record["machine"])["device_name"]
        return cost


def subset_indices(count: int, size: int) -> np.ndarray:
    """Sorted indices of a seeded subset."""
    import numpy as np

    from oodbench.seeding import derive_seed

    order = np.random.default_rng(derive_seed("diagnose", count, size)).permutation(count)
    return np.sort(order[:size])


def peak_memory_mb(device: str) -> float:
    """Peak memory so far: of the GPU where one is used, else of this process."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def expand_parts(store: Store, value: JSON) -> JSON:
    """Key parts with every digest that names an entry replaced by that entry's own parts."""
    if isinstance(value, Mapping):
        return {key: expand_parts(store, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expand_parts(store, item) for item in value]
    if isinstance(value, str) and len(value) == 64:
        for stage in ("fit", "measure", "score"):
            entry = store.get(stage, value)
            if entry is not None:
                return expand_parts(store, dict(entry.parts))
    return value
