"""What a sweep found: AUROCs, KL and active units at every point, and two choices of a point.

`chosen` is made on ID data alone: the highest mean bound L>L−1 of held-out ID images, what the top
layer alone says of an image; ties go to the smaller value.  `oracle` takes the highest AUROC and
has seen the OOD images: tables mark it, and never bold, rank or test it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from oodbench.canonical_json import JSON
from oodbench.flow.bench import Bench
from oodbench.flow.executors.local import in_turn, raise_failures
from oodbench.flow.perform import HeldOut, Outcome, perform, score_held_out
from oodbench.flow.plan import Job
from oodbench.leaderboards.rounding import shown
from oodbench.leaderboards.rows import Cell, Group, Row, make_rows, mean_and_sd
from oodbench.store.store import Entry
from oodbench.sweeps.points import Point, Sweep, all_jobs


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, and their sample standard deviation, None for one seed."""

    mean: float
    sd: float | None


def spread(values: Sequence[float]) -> Spread:
    """Of one value or more."""
    if len(values) == 1:
        return Spread(values[0], None)
    return Spread(*mean_and_sd(values))


@dataclass(frozen=True)
class Estimate:
    """An AUROC in percent.

    `cell`: as a leaderboard has it, one seed with its DeLong interval or mean and sd over seeds.
    `low`, `high`: the ends of the seeds' DeLong intervals (95 %, test images), averaged.
    """

    cell: Cell
    low: float
    high: float

    @property
    def text(self) -> str:
        """``84.1 [83.5, 84.7]`` for one seed, ``84.1±0.6 [83.5, 84.7]`` for several."""
        sd = "" if self.cell.sd is None else f"±{shown(self.cell.sd)}"
        return f"{shown(self.cell.value)}{sd} [{shown(self.low)}, {shown(self.high)}]"


@dataclass(frozen=True)
class Setting:
    """Everything found at a point: runs by OOD set, scores of held-out ID images by seed."""

    point: Point
    groups: Mapping[str, Group]
    held_out: Sequence[HeldOut]
    whole_bound: bool = False

    @property
    def first(self) -> Mapping[str, JSON]:
        """The record of a run."""
        return next(iter(self.groups.values())).first

    @property
    def criterion(self) -> Spread:
        """Mean L>L−1, or L, of the held-out ID images in bits/dim, lower = a higher bound.

        −L>k is the sum of the scores L = −ELBO and LLR>k = ELBO − L>k.
        """
        names = ["L"] if self.whole_bound else ["L", f"LLR>{self.layers - 1}"]
        return spread([
            sum(float(found.scores[name].mean()) for name in names) / (found.dims * math.log(2))
            for found in self.held_out
        ])  # fmt: skip

    @property
    def bound(self) -> str:
        """What `criterion` is of."""
        return "L" if self.whole_bound else f"L>{self.layers - 1}"

    @property
    def layers(self) -> int:
        """L."""
        return int(cast(int, self.first["layers"]))

    def scores(self) -> list[str]:
        """L, every LLR>k, LLR_ada, KL<=L where there is one; in the order of the detector."""
        names = next(iter(self.groups.values())).score_names
        wanted = ("L", "LLR_ada", f"KL<={self.layers}")
        return [n for n in names if n in wanted or n.removeprefix("LLR>").isdecimal()]

    def row(self, ood: str, score: str) -> Row:
        """The row of a leaderboard."""
        return make_rows(self.groups[ood], [score])[0]

    def auroc(self, ood: str, score: str) -> Estimate:
        """Of a score against an OOD set."""
        return estimate(self.groups[ood], score)

    def kl(self) -> list[Spread]:
        """KL of layer 1, 2, … on ID test images, nats."""
        return self._by_layer([numbers(found["kl_nats"]) for found in self._id_test()])

    def active(self) -> list[tuple[Spread, int]]:
        """Active units and units of layer 1, 2, … on ID test images."""
        written = [cast("Sequence[str]", found["active_units"]) for found in self._id_test()]
        counts = [[float(text.partition("/")[0]) for text in texts] for texts in written]
        units = [int(text.partition("/")[2]) for text in written[0]]
        return list(zip(self._by_layer(counts), units, strict=True))

    def _id_test(self) -> list[Mapping[str, JSON]]:
        entries = next(iter(self.groups.values())).entries
        return [id_test(entry) for entry in entries]

    @staticmethod
    def _by_layer(by_seed: Sequence[Sequence[float]]) -> list[Spread]:
        return [spread(values) for values in zip(*by_seed, strict=True)]


@dataclass(frozen=True)
class Swept:
    """A sweep and a setting per point, in the order of the points."""

    sweep: Sweep
    settings: tuple[Setting, ...]

    @property
    def default(self) -> Setting:
        """The setting that the others are compared with."""
        return next(s for s in self.settings if s.point.value == self.sweep.default)

    @property
    def chosen(self) -> Setting:
        """What held-out ID images choose; ties go to the smaller value."""
        return min(self.settings, key=lambda s: (s.criterion.mean, s.point.value))

    def oracle(self, ood: str, score: str) -> Setting:
        """The highest AUROC of a score against an OOD set; ties go to the smaller value."""
        return min(
            self.settings,
            key=lambda s: (-s.auroc(ood, score).cell.value, s.point.value),
        )

    @property
    def title(self) -> str:
        """``Informative HVAE(3)``."""
        return self._row.detector

    @property
    def label(self) -> str:
        """``Informative HVAE(3) F3-dense-small``."""
        return f"{self._row.detector} {self._row.recipe}"

    @property
    def _row(self) -> Row:
        return self.default.row(self.sweep.pairs[0].ood, self.default.scores()[0])


def short_names(found: Sequence[Swept]) -> list[str]:
    """The titles, with the recipe where two share one."""
    titles = [one.title for one in found]
    return [one.title if titles.count(one.title) == 1 else one.label for one in found]


def run_sweeps(bench: Bench, sweeps: Sequence[Sweep]) -> list[Swept]:
    """Fit, measure, score and rank what is missing, then what was found.

    Raises an OodbenchError after everything that can be done was done and stored.
    """
    jobs = all_jobs(sweeps)
    done = in_turn(bench, [partial(_perform, job=job) for job in jobs])
    raise_failures(Outcome(failures=[f for outcome, _ in done for f in outcome.failures]))
    found = {
        (job.request, job.note, job.seed): _Done(outcome.entries, held_out)
        for job, (outcome, held_out) in zip(jobs, done, strict=True)
        if held_out is not None
    }
    return [
        Swept(sweep, tuple(
            _setting(sweep, point, [found[sweep.request, point.label, s] for s in sweep.seeds])
            for point in sweep.points
        ))
        for sweep in sweeps
    ]  # fmt: skip


@dataclass(frozen=True)
class _Done:
    """A job that was done: run entries in the order of its pairs, and held-out scores."""

    entries: Sequence[Entry]
    held_out: HeldOut


def _perform(bench: Bench, job: Job) -> tuple[Outcome, HeldOut | None]:
    outcome = perform(bench, job)
    return outcome, None if outcome.failures else score_held_out(bench, job)


def _setting(sweep: Sweep, point: Point, by_seed: Sequence[_Done]) -> Setting:
    groups = {}
    for number, pair in enumerate(sweep.pairs):
        runs = [done.entries[number] for done in by_seed]
        groups[pair.ood] = Group(runs[0].record, runs)
    held_out = [done.held_out for done in by_seed]
    return Setting(point, groups, held_out, sweep.whole_bound)


def estimate(group: Group, score: str) -> Estimate:
    """The AUROC of a score over the seeds of a group."""
    intervals = [
        cast("Mapping[str, Mapping[str, Mapping[str, float]]]", entry.record["scores"])
        [score]["auroc"] for entry in group.entries
    ]  # fmt: skip
    low, high = (
        100 * math.fsum(interval[end] for interval in intervals) / len(intervals)
        for end in ("low", "high")
    )
    return Estimate(make_rows(group, [score])[0].cells["auroc"], low, high)


def id_test(run: Entry) -> Mapping[str, JSON]:
    """What a detector says of its layers on ID test images; empty where it says nothing."""
    found = cast("Mapping[str, Mapping[str, JSON]]", run.record["diagnostics"])
    return found.get("id_test", {})


def numbers(value: JSON) -> list[float]:
    return [float(cast(float, number)) for number in cast("Sequence[JSON]", value)]
