"""The plan of many jobs as one graph: every step once, whoever asks for it, and what it waits for.

Planning loads no model, imports no torch and makes nothing; images are mapped for their
fingerprints.  What the store holds already is no step.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from oodbench.canonical_json import digest
from oodbench.errors import DataError, OodbenchError
from oodbench.flow.executors.costs import Costs
from oodbench.flow.executors.steps import Step, images_of
from oodbench.flow.keys import fit_key, fit_keys, measure_key, run_key, score_key
from oodbench.flow.missing_steps import behind, has_fits, training_images
from oodbench.flow.resolved_job import ResolvedJob

if TYPE_CHECKING:
    from oodbench.datasets.imageset import ImageSet
    from oodbench.flow.bench import Bench
    from oodbench.flow.plan import Job
    from oodbench.flow.resolved_job import Fit
    from oodbench.store.store import Key


@dataclass(frozen=True)
class Wanted:
    """A run that is asked for: the job, which of its pairs, and the key."""

    job: Job
    pair: int
    key: str


@dataclass
class Graph:
    """Steps by key in the order of the plan, `there`: how many of the plan's the store holds.

    `runs`: every run that is asked for.  `loaded`: the images, by what was asked for.
    `failures`: what cannot be planned, by job and pair.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    runs: list[Wanted] = field(default_factory=list)
    failures: list[tuple[Job, OodbenchError]] = field(default_factory=list)
    there: dict[str, str] = field(default_factory=dict)
    loaded: Mapping[Hashable, ImageSet] = field(default_factory=dict)

    def dependents(self) -> dict[str, list[str]]:
        """Keys of the steps that wait for a step, by its key."""
        found: dict[str, list[str]] = {key: [] for key in self.steps}
        for step in self.steps.values():
            for need in step.needs:
                found[need].append(step.key)
        return found

    def urgency(self) -> dict[str, float]:
        """Seconds from the beginning of a step to the end of the longest chain that waits for it.

        What is most urgent is started first: no long chain is then left over at the end (the
        critical-path list schedule of Graham 1969, Kohler 1975).
        """
        waiting = self.dependents()
        found: dict[str, float] = {}
        for key in reversed(self.in_order()):
            after = max((found[other] for other in waiting[key]), default=0.0)
            found[key] = self.steps[key].seconds + after
        return found

    def in_order(self) -> list[str]:
        """Every step behind all that it needs."""
        waiting, left = self.dependents(), {k: len(s.needs) for k, s in self.steps.items()}
        ready = [key for key, count in left.items() if not count]
        for key in ready:  # grows while it is gone through
            for other in waiting[key]:
                left[other] -= 1
                if not left[other]:
                    ready.append(other)
        assert len(ready) == len(self.steps), "steps wait for each other"
        return ready


def plan(bench: Bench, jobs: Sequence[Job], costs: Costs | None = None) -> Graph:
    """The graph of what all jobs together would have to make; `costs` those that the store has."""
    planning = _Planning(replace(bench, loaded={}), costs or Costs(bench.store))
    resolved: dict[str, ResolvedJob | OodbenchError] = {}
    for job in jobs:
        kind = digest([
            job.request.label, job.in_dist, [[p.name, p.in_dist, p.ood] for p in job.pairs],
            job.scale, dict(job.overrides), list(job.request.scores),
        ])  # fmt: skip
        if kind not in resolved:
            try:
                resolved[kind] = ResolvedJob(planning.bench, job)
            except OodbenchError as error:
                resolved[kind] = error
        found = resolved[kind]
        if isinstance(found, OodbenchError):
            planning.graph.failures.append((job, found))
            continue
        try:
            planning.add(found.with_seed(job))
        except OodbenchError as error:
            planning.graph.failures.append((job, error))
    return planning.linked()


class _Planning:
    def __init__(self, bench: Bench, costs: Costs) -> None:
        self.bench, self.store, self.costs = bench, bench.store, costs
        self.graph = Graph(loaded={} if bench.loaded is None else bench.loaded)
        self.there = {
            stage: bench.store.storage.recorded(stage)
            for stage in ("fit", "measure", "score", "run")
        }
        self.held: dict[str, bool] = {}
        self.makers: dict[str, str] = {}

    def holds(self, key: Key) -> bool:
        """Whether the store has an entry that results may be made from; asked once for a key."""
        if key.digest not in self.held:
            there = key.digest in self.there[key.stage]
            self.held[key.digest] = there and self.store.holds(key)
            if self.held[key.digest]:
                self.graph.there[key.digest] = key.stage
        return self.held[key.digest]

    def add(self, job: ResolvedJob) -> None:
        """The steps of a job that the store lacks."""
        ready: list[int] = []
        for number, pair in enumerate(job.pairs):
            try:
                job.ood(pair)
                ready.append(number)
            except DataError as error:
                self.graph.failures.append((replace(job.asked, pairs=(pair,)), error))
        missing = []
        for number in ready:
            key = run_key(job, job.ood(job.pairs[number]))
            self.graph.runs.append(Wanted(job.asked, number, key.digest))
            if not self._finished(job, number, key):
                missing.append(number)
        if missing:
            self._add_missing(job, missing)

    def _finished(self, job: ResolvedJob, number: int, key: Key) -> bool:
        """As `oodbench.flow.missing_steps.finished`, with what is known already."""
        if not self.holds(key):
            return False
        if (found := self.store.find(key)) is not None and found.imported:
            return True
        return all(self.holds(key) for key in behind(job, job.ood(job.pairs[number])))

    def _add_missing(self, job: ResolvedJob, missing: Sequence[int]) -> None:
        measures = self._measures(job, missing)
        lacking = [m for m in measures if not self.holds(m[1])]
        fits = fit_keys(job) if job.has_fit else []
        with_fits = (
            bool(lacking) or job.detector.scores_with_models or not has_fits(job, self.holds)
        )
        fits = fits if with_fits else []
        self._add_fits(job, fits, lacking)
        learned = self._missing(fits)
        if not job.detector.refits:
            for role, key, images, subset in lacking:
                count = subset or len(images)
                split = "" if images.split == "test" else f" {images.split}"
                self._put(Step(
                    key.digest, "measure", f"measure {images.name}{split} with {job.label}",
                    job.asked, f"measure:{role}", learned, (), count,
                    self.costs.measuring(key, images, count), job.has_fit,
                ))  # fmt: skip
        beside = self._missing([m[1] for m in measures if m[0] in ("train", "validation")])
        of_role = {m[0]: m[1] for m in measures}
        scored = {}
        for role in ("test", *(f"ood:{number}" for number in missing)):
            images = images_of(job, role)[0]
            key = scored[role] = score_key(job, images)
            if self.holds(key):
                continue
            needs = (*self._missing([of_role[role]]), *beside)
            models = job.detector.scores_with_models
            self._put(Step(
                key.digest, "score", f"score {images.name} with {job.label}", job.asked,
                f"score:{role}", (*needs, *(learned if models else ())), (), job.count(images),
                self.costs.typical("score"), models,
            ))  # fmt: skip
        for number in missing:
            pair = job.pairs[number]
            key = run_key(job, job.ood(pair))
            sides = [scored["test"], scored[f"ood:{number}"]]
            sides += [of_role["test"], of_role[f"ood:{number}"]]
            needs = (*self._missing(sides), *beside, *learned)
            self._put(Step(
                key.digest, "run", f"rank {job.label} on {pair.name}", job.asked,
                f"rank:{number}", needs, (), 0, self.costs.typical("run"),
            ))  # fmt: skip

    def _measures(
        self, job: ResolvedJob, missing: Sequence[int]
    ) -> list[tuple[str, Key, ImageSet, int]]:
        """Role, key, images and size of the subset of all that the missing runs measure."""
        roles = ["test", *(f"ood:{number}" for number in missing)]
        compared = {id(images) for images, _ in job.compared()}
        roles += [
            name for name in ("train", "validation")
            if compared and (name == "train" or job.validation is not None)
            and id(images_of(job, name)[0]) in compared
        ]  # fmt: skip
        found = []
        for role in roles:
            images, subset = images_of(job, role)
            found.append((role, measure_key(job, images, subset), images, subset))
        return found

    def _add_fits(
        self, job: ResolvedJob, keys: Sequence[Key],
        lacking: Sequence[tuple[str, Key, ImageSet, int]],
    ) -> None:  # fmt: skip
        """Models first; what is learned on them waits for them.

        A detector that learns anew in every process measures in the one that has it learn.
        """
        models: tuple[str, ...] = ()
        for number, (key, fit) in enumerate(zip(keys, job.fits, strict=False)):
            also: tuple[str, ...] = ()
            if fit.recipe is None and job.detector.refits:
                also = tuple(m[1].digest for m in lacking)
            if self.holds(key) and not also:
                continue
            images = training_images(fit.recipe, job.train) if fit.recipe else len(job.train)
            seconds = self.costs.fitting(key, fit.recipe, images, job.train.dims)
            first = key.digest
            if self.holds(key):  # learned already, and again now, for what is left to measure
                first, also = also[0], also[1:]
            self._put(Step(
                first, "fit" if first == key.digest else "measure", f"fit {fit.label}", job.asked,
                f"fit:{number}", models if fit.recipe is None else self._begun(job, fit), also,
                images, seconds, True,
            ))  # fmt: skip
            if fit.recipe is not None:
                models = (*models, self.makers[first])

    def _begun(self, job: ResolvedJob, fit: Fit) -> tuple[str, ...]:
        """The steps that make the snapshots which a fit goes on from."""
        found: list[Key] = []
        before = fit.before
        while before is not None:
            found.append(fit_key(job, before))
            before = before.before
        return self._missing(found)

    def _put(self, step: Step) -> None:
        """A step where none makes its key already."""
        if step.key in self.makers:
            return
        also = tuple(key for key in step.also if key not in self.makers)
        self.graph.steps[step.key] = replace(step, also=also)
        for key in (step.key, *also):
            self.makers[key] = step.key

    def _missing(self, keys: Iterable[Key]) -> tuple[str, ...]:
        """The steps that make these keys, of those that the store lacks."""
        lacking = [key.digest for key in keys if not self.holds(key)]
        return tuple(dict.fromkeys(self.makers[key] for key in lacking if key in self.makers))

    def linked(self) -> Graph:
        """The graph, with no step that waits for itself."""
        for key, step in self.graph.steps.items():
            needs = tuple(dict.fromkeys(n for n in step.needs if n != key))
            if needs != step.needs:
                self.graph.steps[key] = replace(step, needs=needs)
        return self.graph


def by_stage(steps: Iterable[Step]) -> Mapping[str, int]:
    """How many steps of every stage."""
    found: dict[str, int] = {}
    for step in steps:
        found[step.stage] = found.get(step.stage, 0) + 1
    return found
