"""Builders of the figures that show scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oodbench.figures.chosen_runs import Chosen
from oodbench.figures.forest import Estimate, forest_figure
from oodbench.figures.inputs import Material
from oodbench.figures.scores import (
    Complexity,
    Scored,
    complexity_figure,
    density_figure,
    roc_figure,
)
from oodbench.flow.plan import DetectorRequest
from oodbench.leaderboards.board import TRIVIAL, shown_scores
from oodbench.leaderboards.rows import Group, make_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _scored(material: Material, chosen: Chosen) -> list[tuple[str, Scored]]:
    """(score's name, scores) of everything asked for of one detector."""
    return [
        (name, Scored(chosen.named(name), *material.stored.sides(chosen.run, name)))
        for name in chosen.scores
        if name in material.stored.scores(chosen.run)[0]  # an oracle has no scores of its own
    ]


def roc(material: Material) -> Figure:
    """A panel per pair, a curve per score."""
    runs = material.runs
    return roc_figure([
        (material.heading(pair),
         [scored for chosen in runs.choose(pair) for _, scored in _scored(material, chosen)])
        for pair in runs.pairs
    ])  # fmt: skip


def densities(material: Material) -> Figure:
    """A panel per pair and score."""
    runs = material.runs
    return density_figure([
        (material.heading(pair), scored)
        for pair in runs.pairs
        for chosen in runs.choose(pair)
        for _, scored in _scored(material, chosen)
    ])  # fmt: skip


def complexity(material: Material) -> Figure:
    """Scores joined with the PNG lengths that the detector `png-length` measured, by image."""
    runs, stored = material.runs, material.stored
    lengths = runs.pick(DetectorRequest("png-length"), material.pair)
    by_index = [
        dict(zip(table["index"].tolist(), table["value"].tolist(), strict=True))
        for table in stored.statistics(lengths)
    ]
    shown = []
    for chosen in runs.choose(material.pair):
        rows = stored.compared(chosen.run)
        sides = [
            np.array([known[i] for i in table["index"][kept].tolist()])
            for known, table, kept in zip(
                by_index, stored.statistics(chosen.run), rows, strict=True
            )
        ]
        shown += [Complexity(scored, *sides) for _, scored in _scored(material, chosen)]
    return complexity_figure(material.heading(material.pair), shown)


def forest(material: Material) -> Figure:
    """Every detector with the scores that tables show, those without a model last."""
    runs = material.runs
    scores = {request.name: request for request in runs.requests}
    estimates = []
    for group in sorted(runs.all_groups(material.pair), key=_order):
        names = shown_scores(group, scores.get(str(group.first["detector"])), False)
        for row in make_rows(group, names):
            cell = row.cells["auroc"]
            spread = cell.sd if cell.sd is not None else 0.0
            low = cell.low if cell.low is not None else cell.value - spread
            high = cell.high if cell.high is not None else cell.value + spread
            estimates.append(
                Estimate(row.detector, row.score, cell.value, low, high, len(row.seeds))
            )
    return forest_figure(material.heading(material.pair), estimates)


def _order(group: Group) -> tuple[object, ...]:
    names = ("category", "detector", "recipe", "scale")
    return (group.first["detector"] in TRIVIAL, *(str(group.first[name]) for name in names))
