"""What the builders of figures share: the chosen runs, and what the store holds of them."""

from __future__ import annotations

from dataclasses import dataclass

from oodbench.errors import ConfigError
from oodbench.figures.chosen_runs import Chosen, Runs
from oodbench.figures.stored import Stored


@dataclass(frozen=True)
class Material:
    """What a builder draws from."""

    runs: Runs
    stored: Stored

    @property
    def pair(self) -> str:
        """The one pair of a figure that takes one."""
        return self.runs.pairs[0]

    def heading(self, pair: str) -> str:
        """``fashionmnist (ID), mnist (OOD), 10,000 each``."""
        record = self.runs.all_groups(pair)[0].first
        count = int(str(record["n"]))
        return f"{record['in_dist']} (ID), {record['ood']} (OOD), {count:,} each"

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
