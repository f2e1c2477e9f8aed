"""Tests between runs on the same images, from the scores in the store.

`compare` speaks of the test images, for the one trained model of each run; `seed_difference` of
what training again would change; `over_seeds_and_images` of both at once.  Where two runs measured
different subsets of a set, or the equal-size rule drew different images, those common to both are
compared.  Where images of a set depend on each other in groups, the groups are what varies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, cast

from oodbench.canonical_json import JSON
from oodbench.errors import StoreError
from oodbench.leaderboards.rows import Group, mean_and_sd
from oodbench.store.store import Entry, Store

if TYPE_CHECKING:
    import numpy as np

    from oodbench.leaderboards.compared_images import Compared
    from oodbench.rank.seeds_and_images import Difference, Matched
    from oodbench.rank.significance import Groups, PairedComparison

    #: Scores of the compared ID and OOD images, (n,) each, after the equal-size rule.
    Sides: TypeAlias = tuple[np.ndarray, np.ndarray]


SIDES = ("id_scores", "ood_scores")


class PairedScores:
    """The per-image scores of runs, as their metrics were computed from."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._tables = lru_cache(maxsize=24)(self._read)

    def compared(self, run: Entry, score: str) -> Compared:
        """The compared images of a score; StoreError where its scores are gone."""
        from oodbench.leaderboards.compared_images import compared

        tables = [self._tables(str(run.parts[side])) for side in SIDES]
        return compared(run, score, tables[0], tables[1])

    def sides(self, run: Entry, score: str) -> Sides:
        """(n,) scores of the ID and of the OOD images; StoreError where they are gone."""
        found = self.compared(run, score)
        return found.id_scores, found.ood_scores

    def compare(self, a: Entry, score_a: str, b: Entry, score_b: str) -> PairedComparison:
        """DeLong's paired comparison of two AUROCs, fractions, on the images that both compare.

        StoreError where scores are gone, the runs did not see the same images or have fewer than
        two on a side in common, or one score judges groups of images and the other single ones.
        """
        from oodbench.rank.significance import paired_delong

        matched, groups = self._pairing(a, score_a, b, score_b)
        return paired_delong(*matched, groups)

    def over_seeds_and_images(self, a: Group, score_a: str, b: Group, score_b: str) -> Difference:
        """The difference of two AUROCs over the seeds that both have; StoreError as `compare`."""
        from oodbench.rank.seeds_and_images import difference_of_areas

        shared = self.paired_seeds(a, b)
        if not shared:
            raise StoreError("no seed in common")
        pairings = [self._pairing(x, score_a, y, score_b) for _, x, y in shared]
        return difference_of_areas([matched for matched, _ in pairings], pairings[0][1])

    def paired_seeds(self, a: Group, b: Group) -> list[tuple[int, Entry, Entry]]:
        """(seed, run of a, run of b) of the seeds both have.

        A single run that no seed went into stands beside every seed of the other.
        """
        left, right = seeds_of(a), seeds_of(b)
        if len(left) == 1 and self._seedless(a.entries[0]):
            left = dict.fromkeys(right, next(iter(left.values())))
        if len(right) == 1 and self._seedless(b.entries[0]):
            right = dict.fromkeys(left, next(iter(right.values())))
        return [(seed, left[seed], right[seed]) for seed in left if seed in right]

    def _seedless(self, run: Entry) -> bool:
        """Whether the run's key holds no seed: nothing was fitted, no draw was made.

        False where the measurement behind it is gone, and so nothing known.
        """
        try:
            measured = self._measured(run, SIDES[0])
        except StoreError:
            return False
        return not measured.parts.get("fits") and "seed" not in measured.parts

    def matched(self, a: Entry, score_a: str, b: Entry, score_b: str) -> Matched:
        """ID and OOD scores of a, then of b, of the images that both compare, in one order.

        StoreError as `compare`.
        """
        return self._pairing(a, score_a, b, score_b)[0]

    def _pairing(
        self, a: Entry, score_a: str, b: Entry, score_b: str
    ) -> tuple[Matched, tuple[Groups, Groups]]:
        """What `matched` gives, and the groups of dependent ID and OOD images among them."""
        measured = [[self._measured(run, side) for side in SIDES] for run in (a, b)]
        if [m.parts["images"] for m in measured[0]] != [m.parts["images"] for m in measured[1]]:
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
        sides = [
            self._in_common(*both, left.members)
            for both in (
                (measured[0][0], left.id_rows, measured[1][0], right.id_rows),
                (measured[0][1], left.ood_rows, measured[1][1], right.ood_rows),
            )
        ]
        (id_a, id_b), (ood_a, ood_b) = sides
        matched = (
            left.id_scores[id_a], left.ood_scores[ood_a],
            right.id_scores[id_b], right.ood_scores[ood_b],
        )  # fmt: skip
        groups = self._groups(a) if left.members == 1 else {}
        id_groups, ood_groups = groups.get("id"), groups.get("ood")
        return matched, (
            None if id_groups is None else id_groups[id_a],
            None if ood_groups is None else ood_groups[ood_a],
        )

    def _groups(self, run: Entry) -> dict[str, np.ndarray]:
        """(n,) the groups of the compared images of a run by side, where any are declared."""
        from oodbench.store.payload import unpack_table

        if "groups" not in run.parts:
            return {}
        return unpack_table(run.read("groups.parquet"))

    def _in_common(
        self, a: Entry, rows_a: np.ndarray, b: Entry, rows_b: np.ndarray, members: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where two selections of rows of measurements hold the same images, in the same order."""
        import numpy as np

        if _subset(a) != _subset(b):
            if members > 1:
                raise StoreError(
                    f"groups of {members} images were drawn from different subsets; no paired"
                    " comparison is possible"
                )
            rows_a, rows_b = self._indices(a)[rows_a], self._indices(b)[rows_b]
        common, in_a, in_b = np.intersect1d(rows_a, rows_b, return_indices=True)
        if len(common) < 2:
            raise StoreError(
                f"the runs measured subsets with {len(common)} images of a side in common; no"
                " paired comparison is possible"
            )
        return in_a, in_b

    def _indices(self, measured: Entry) -> np.ndarray:
        """Places in the whole split of the images of a measurement."""
        from oodbench.store.payload import unpack_table

        def index(data: bytes) -> np.ndarray:
            return unpack_table(data, ["index"])["index"]

        return measured.parse("statistics.parquet", index)

    def _measured(self, run: Entry, side: str) -> Entry:
        """The measurement behind a side's scores."""
        score = self._entry("score", run.parts[side])
        return self._entry("measure", score.parts["measure"])

    def _entry(self, stage: str, digest: JSON) -> Entry:
        entry = self.store.get(stage, str(digest))
        if entry is None:
            raise StoreError(
                f"{stage} {str(digest)[:12]} is not in {self.store.storage.location} any more; run"
                " the detector in a new store to compare it"
            )
        return entry

    def _read(self, digest: str) -> dict[str, np.ndarray]:
        from oodbench.store.payload import unpack_table

        entry = self._entry("score", digest)
        measured = self.store.get("measure", str(entry.parts.get("measure")))
        rows = None if measured is None else cast("int | None", measured.record.get("images"))
        try:
            return unpack_table(entry.read("scores.parquet"), rows=rows)
        except ValueError as error:
            raise StoreError(f"the scores {digest[:12]} are {error}") from error


def _subset(measured: Entry) -> tuple[JSON, JSON]:
    return measured.parts.get("subset", 0), measured.parts.get("subset_revision", 1)


def _judged(members: int) -> str:
    return f"groups of {members} images" if members > 1 else "single images"


def seeds_of(group: Group) -> dict[int, Entry]:
    """The runs of a group by training seed, in the order of the seeds."""
    by_seed = {int(cast(int, entry.record["seed"])): entry for entry in group.entries}
    return dict(sorted(by_seed.items()))


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
