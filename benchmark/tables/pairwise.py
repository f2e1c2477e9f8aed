"""Paired DeLong tests between runs on the same images, from the scores in the store.

They speak of the test images, for the one trained model of each run; what training again would
change is another source of variance (`seed_difference`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, cast

from oodbench.canonical import JSON
from oodbench.errors import StoreError
from oodbench.leaderboards import Group, mean_and_sd
from oodbench.store import Entry, Store

if TYPE_CHECKING:
    import numpy as np

    from oodbench.significance import PairedComparison
    from oodbench.tables.compared import Compared

    #: Scores of the compared ID and OOD images, (n,) each, after the equal-size rule.
    Sides: TypeAlias = tuple[np.ndarray, np.ndarray]


class PairedScores:
    """The per-image scores of runs, as their metrics were computed from."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._tables = lru_cache(maxsize=8)(self._read)

    def compared(self, run: Entry, score: str) -> Compared:
        """The compared images of a score; StoreError where its scores are gone."""
        from oodbench.tables.compared import compared

        tables = [self._tables(str(run.parts[side])) for side in ("id_scores", "ood_scores")]
        return compared(run, score, tables[0], tables[1])

    def sides(self, run: Entry, score: str) -> Sides:
        """(n,) scores of the ID and of the OOD images; StoreError where they are gone."""
        found = self.compared(run, score)
        return found.id_scores, found.ood_scores

    def images(self, run: Entry) -> tuple[str, str]:
        """Fingerprints of the ID and OOD images; StoreError where their measurement is gone."""
        found = []
        for side in ("id_scores", "ood_scores"):
            measured = self._entry("measure", str(self._entry("score", run.parts[side])
                                                  .parts["measure"]))  # fmt: skip
            found.append(str(measured.parts["images"]))
        return found[0], found[1]

    def compare(self, a: Entry, score_a: str, b: Entry, score_b: str) -> PairedComparison:
        """DeLong's paired comparison of two AUROCs, fractions.

        StoreError where scores are gone, the runs did not see the same images, or one score judges
        groups of images and the other single ones.
        """
        from oodbench.significance import paired_delong

        if self.images(a) != self.images(b):
            raise StoreError(
                f"runs {a.digest[:12]} and {b.digest[:12]} did not see the same images; no paired"
                " comparison is possible"
            )
        left, right = self.compared(a, score_a), self.compared(b, score_b)
        if left.members != right.members:
            raise StoreError(
                f"{score_a} judges {_judged(left.members)} and {score_b} {_judged(right.members)};"
                " no paired comparison is possible"
            )
        return paired_delong(left.id_scores, left.ood_scores, right.id_scores, right.ood_scores)

    def _entry(self, stage: str, digest: JSON) -> Entry:
        entry = self.store.get(stage, str(digest))
        if entry is None:
            raise StoreError(
                f"{stage} {str(digest)[:12]} is not in {self.store.storage.location} any more; run"
                " the detector again to compare it"
            )
        return entry

    def _read(self, digest: str) -> dict[str, np.ndarray]:
        from oodbench.payload import unpack_table

        return unpack_table(self._entry("score", digest).read("scores.parquet"))


def _judged(members: int) -> str:
    return f"groups of {members} images" if members > 1 else "single images"


def seeds_of(group: Group) -> dict[int, Entry]:
    """The runs of a group by training seed, in the order of the seeds."""
    by_seed = {int(cast(int, entry.record["seed"])): entry for entry in group.entries}
    return dict(sorted(by_seed.items()))


def paired_seeds(a: Group, b: Group) -> list[tuple[int, Entry, Entry]]:
    """(seed, run of a, run of b) of the seeds both have.

    A group of one run without any randomness (no recipe) stands beside every seed of the other.
    """
    left, right = seeds_of(a), seeds_of(b)
    if not a.first["recipe"] and len(left) == 1:
        left = dict.fromkeys(right, next(iter(left.values())))
    if not b.first["recipe"] and len(right) == 1:
        right = dict.fromkeys(left, next(iter(right.values())))
    return [(seed, left[seed], right[seed]) for seed in left if seed in right]


@dataclass(frozen=True)
class SeedDifference:
    """Mean difference over training seeds, its standard deviation, t interval and p-value."""

    mean: float
    sd: float
    low: float
    high: float
    p_value: float
    seeds: int


def seed_difference(differences: Sequence[float], level: float = 0.95) -> SeedDifference:
    """Student's paired t over two seeds or more."""
    from scipy.special import stdtr, stdtrit

    count = len(differences)
    mean, sd = mean_and_sd(differences)
    error = sd / math.sqrt(count)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * error
    if error > 0:
        p_value = 2 * float(stdtr(count - 1, -abs(mean) / error))
    else:
        p_value = 1.0 if mean == 0 else 0.0
    return SeedDifference(mean, sd, mean - half, mean + half, p_value, count)
