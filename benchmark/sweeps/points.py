"""What a sweep varies and which jobs that takes; a kind of sweep makes `Sweep`s of its own.

A job is an ordinary one, with an overlay on its recipe: its fits, measurements and runs are those
of any other command that asks for the same configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oodbench.canonical_json import JSON
from oodbench.datasets.pairs import Pair
from oodbench.flow.plan import DetectorRequest, Job


@dataclass(frozen=True)
class Point:
    """A value of what is varied; points of one `label` are one configuration and share its fits.

    `overrides` overlays the sections of the recipe, as those of a `Job`.
    """

    value: float
    label: str
    overrides: Mapping[str, JSON]

    @property
    def short(self) -> str:
        """The value as it was typed: ``0.25``, ``1``."""
        return f"{self.value:g}"


@dataclass(frozen=True)
class Sweep:
    """One model at every point, on pairs of one ID set.

    `symbol` names what is varied (r) and `thing` what a point's label shows; `default` is the
    value that the others are compared with, one of the points.  What held-out ID images choose by
    is L>L−1, or the `whole_bound` L.  `notes` are what a reader must
    know of this sweep.
    """

    request: DetectorRequest
    pairs: tuple[Pair, ...]
    points: tuple[Point, ...]
    default: float
    scale: str
    seeds: tuple[int, ...]
    symbol: str
    thing: str
    notes: tuple[str, ...] = ()
    whole_bound: bool = False

    def job(self, point: Point, seed: int) -> Job:
        """The job of a point and a training seed."""
        return Job(
            self.request, self.pairs[0].in_dist, self.pairs, self.scale, seed, point.overrides,
            point.label,
        )  # fmt: skip

    def distinct(self) -> list[Point]:
        """The first point of every configuration."""
        return list({point.label: point for point in reversed(self.points)}.values())[::-1]

    def jobs(self) -> list[Job]:
        """One job per configuration and seed."""
        return [self.job(point, seed) for point in self.distinct() for seed in self.seeds]


def all_jobs(sweeps: Sequence[Sweep]) -> list[Job]:
    """The jobs of all sweeps, seed by seed, so that every curve is complete with one seed early."""
    jobs = [job for sweep in sweeps for job in sweep.jobs()]
    return sorted(jobs, key=lambda job: job.seed)
