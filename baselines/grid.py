"""A grid of scores: printed point by point, or one point chosen on a validation OOD set.

The choice is the point with the largest AUROC of ID training images against the validation images;
ties take the first.  Category prior: another OOD set was known, that of the pair was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from oodbench.detect.detector import Detector

if TYPE_CHECKING:
    import numpy as np


class Grid(Detector):
    """Every point is a score; the best one, named `oracle_name`, is an oracle choice."""

    oracle_name: ClassVar[str] = "best"

    def grid(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """(N,) scores of every point."""
        raise NotImplementedError

    def grid_names(self) -> list[str]:
        """The names of the points, in the order of `grid`."""
        raise NotImplementedError

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All points."""
        return self.grid(statistics)

    def score_names(self) -> list[str]:
        """Those of the points."""
        return self.grid_names()

    def oracles(self) -> Mapping[str, Sequence[str]]:
        """The best point."""
        return {self.oracle_name: self.grid_names()}


class ChosenOnValidation(Grid):
    """Put before a grid: the chosen point is the only score, named `chosen_name`."""

    chosen_name: ClassVar[str] = ""
    chosen: str = ""

    def choose(self, inside: Mapping[str, np.ndarray], outside: Mapping[str, np.ndarray]) -> str:
        """The name of the best point on the validation set."""
        from oodbench.rank.metrics import auroc

        grid, other = self.grid(inside), self.grid(outside)
        self.chosen = max(grid, key=lambda name: auroc(grid[name], other[name]))
        return self.chosen

    def scores(self, statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The chosen point."""
        return {self.chosen_name: self.grid(statistics)[self.chosen]}

    def score_names(self) -> list[str]:
        """One."""
        return [self.chosen_name]

    def oracles(self) -> Mapping[str, Sequence[str]]:
        """None."""
        return {}
