"""What the builders of figures share: the chosen runs, and what the store holds of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oodbench.errors import ConfigError
from oodbench.figures.chosen_runs import Chosen, Runs
from oodbench.figures.stored import Stored
from oodbench.leaderboards.rows import Row, make_rows
from oodbench.tables.images import compared_row, sizes_in_short


@dataclass(frozen=True)
class Material:
    """What a builder draws from."""

    runs: Runs
    stored: Stored

    @property
    def pair(self) -> str:
        """The one pair of a figure that takes one."""
        return self.runs.pairs[0]

    def heading(self, pair: str, rows: Iterable[Row], *, one_seed: bool = False) -> str:
        """``fashionmnist (ID), mnist (OOD), 500 to 10,000 each``, of the rows that are drawn.

        `one_seed`: and which seed is drawn.
        """
        record = self.runs.all_groups(pair)[0].first
        count = sizes_in_short(compared_row(row) for row in rows)
        head = f"{record['in_dist']} (ID), {record['ood']} (OOD), {count}"
        if not one_seed:
            return head
        seeds = {str(one.run.record["seed"]) for one in self.runs.choose(pair) if one.trained}
        return f"{head}, seed\u00a0{', '.join(sorted(seeds, key=int))}" if seeds else head

    def chosen_rows(self, pair: str) -> list[Row]:
        """The scores that `Runs.choose` gives, as rows."""
        return [row for one in self.runs.choose(pair) for row in make_rows(one.group, one.scores)]

    def layered(self, pair: str) -> list[Chosen]:
        """The runs of a pair; ConfigError where one is not of a hierarchical VAE."""
        chosen = self.runs.choose(pair)
        for one in chosen:
            if not one.run.record["layers"]:
                raise ConfigError(
                    f"{one.run.record['detector']} has no layers; this figure takes hierarchical"
                    " VAEs such as vanilla-hvae and informative-hvae"
                )
        return chosen
