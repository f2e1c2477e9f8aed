"""Runs of one training at several budgets: AUROC, bits/dim and KL against the images it has seen.

Budgets belong together where their fits differ in the number of epochs and in the seed alone, such
as the snapshots of one training (`oodbench.declare.settings.Training`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON, digest
from oodbench.leaderboards.rows import Group, Row, make_rows
from oodbench.sweeps.results import Estimate, Spread, estimate, id_test, numbers, spread

if TYPE_CHECKING:
    from oodbench.store.store import Entry


@dataclass(frozen=True)
class Trained:
    """What the fit of a run was trained with, and the images that it saw, with repetition.

    `family`: what fits share that differ in epochs and seed alone.  `passes` over the images that
    it was trained on.  `changing`: whether the loss was still another one than that of later
    epochs, within a warm-up or under free bits.  `shared`: whether the steps of its training are
    those of a longer one.
    """

    family: str
    epochs: int
    images: int
    passes: float
    changing: bool
    shared: bool


@dataclass(frozen=True)
class Budget:
    """One budget: the runs of all seeds, on one pair."""

    trained: Trained
    group: Group

    def row(self, score: str) -> Row:
        """The row of a leaderboard."""
        return make_rows(self.group, [score])[0]

    def auroc(self, score: str) -> Estimate:
        """Of a score, percent."""
        return estimate(self.group, score)

    def bits_per_dim(self) -> list[Spread]:
        """L>0, L>1, … of ID test images, negated, in bits/dim; L alone of a model without layers.

        Empty of a model without a bound on log p(x).
        """
        found = [id_test(entry) for entry in self.group.entries]
        if all("bits_per_dim_k" in one for one in found):
            return _by_layer([numbers(one["bits_per_dim_k"]) for one in found])
        if all("bits_per_dim" in one for one in found):
            return _by_layer([numbers([one["bits_per_dim"]]) for one in found])
        return []

    def kl(self) -> list[Spread]:
        """KL of layer 1, 2, … on ID test images, nats; empty of a model without such."""
        found = [id_test(entry) for entry in self.group.entries]
        if not all(isinstance(one.get("kl_nats"), list) for one in found):
            return []
        return _by_layer([numbers(one["kl_nats"]) for one in found])


@dataclass
class Curve:
    """One training on one pair, its budgets in ascending order; `beside`: other such trainings."""

    label: str
    scores: tuple[str, ...]
    budgets: list[Budget] = field(default_factory=list)
    beside: int = 0

    @property
    def first(self) -> Mapping[str, JSON]:
        """The record of a run."""
        return self.budgets[0].group.first

    @property
    def mark(self) -> str:
        """``#3ee8``: what names its first budget among the configurations of the detector."""
        return f"#{str(self.first['configuration'])[:4]}"

    @property
    def seeds(self) -> list[int]:
        """Every seed of a budget."""
        return sorted({seed for one in self.budgets for seed in one.row(self.scores[0]).seeds})


def families(groups: Sequence[Group], trained: Callable[[Entry], Trained]) -> list[list[Budget]]:
    """The configurations of a detector on a pair by their training, budgets in ascending order."""
    found: dict[str, list[Budget]] = {}
    for group in groups:
        about = trained(group.entries[0])
        found.setdefault(about.family, []).append(Budget(about, group))
    return [sorted(one, key=lambda budget: budget.trained.epochs) for one in found.values()]


def trained_with(
    run: Entry, fits: Sequence[Entry], measured: Entry, log: Mapping[str, Sequence[float]]
) -> Trained:
    """What the fits behind a run were trained with; the first is the detector's own model.

    `measured`: the measurement of its ID images; `log`: the columns of the first fit's log.
    """
    models = [fit for fit in fits if "training" in fit.parts]
    shared: list[JSON] = []
    for fit in models:
        training = cast("Mapping[str, JSON]", fit.parts["training"])
        rest = {name: value for name, value in training.items() if name != "epochs"}
        shared.append({**fit.parts, "training": rest, "seed": None})
    own, settings = models[0].parts, cast("Mapping[str, JSON]", models[0].parts["training"])
    epochs, images = int(cast(int, settings["epochs"])), round(log["images"][-1])
    each = int(cast(int, models[0].record["train_images"]))
    limit = settings.get("max_images")
    return Trained(
        digest([shared, measured.parts.get("settings"), run.record["detector"]]),
        epochs,
        images,
        images / min(each, int(cast(int, limit)) if limit else each),
        epochs < last_change(own["config"]),
        settings["schedule"] == "constant" and "early_stop" not in settings,
    )


def last_change(config: JSON) -> int:
    """The epoch from which on what is minimised stays the same, 0 where it never changes.

    Settings called ``…_epochs`` are counts of epochs; those of one mapping follow each other.
    """
    if isinstance(config, Mapping):
        own = math.fsum(
            value for name, value in config.items()
            if name.endswith("_epochs") and isinstance(value, int)
        )  # fmt: skip
        return max([int(own), *map(last_change, config.values())])
    return max(map(last_change, config), default=0) if isinstance(config, list) else 0


def _by_layer(by_seed: Sequence[Sequence[float]]) -> list[Spread]:
    return [spread(values) for values in zip(*by_seed, strict=True)]
