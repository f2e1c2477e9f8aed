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

    def heading(self, pair: str, *, one_seed: bool = False) -> str:
        """``fashionmnist (ID), mnist (OOD), 10,000 each``; `one_seed`: and which one is drawn."""
        groups = self.runs.all_groups(pair)
        record = groups[0].first
        counts = sorted({int(str(group.first["n"])) for group in groups})
        each = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
        head = f"{record['in_dist']} (ID), {record['ood']} (OOD), {each} each"
        if not one_seed:
            return head
        seeds = {str(one.run.record["seed"]) for one in self.runs.choose(pair) if one.trained}
        return f"{head}, seed {', '.join(sorted(seeds, key=int))}" if seeds else head

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
