"""Builders of the figures that show scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from oodbench.errors import ConfigError
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
from oodbench.leaderboards.rows import Group, category_tag, make_rows
from oodbench.leaderboards.stored_groups import recipe_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _scored(material: Material, chosen: Chosen) -> list[tuple[str, Scored]]:
    """(score's name, scores) of everything asked for of one detector."""
    return [
        (name, Scored(_label(chosen, name, found.members), found.id_scores, found.ood_scores))
        for name in chosen.scores
        for found in [material.stored.compared(chosen.run, name)]
    ]


def _label(chosen: Chosen, score: str, members: int) -> str:
    """What a legend calls a score; one of groups says how many images are judged together."""
    return chosen.named(score) + (f" (groups of {members} images)" if members > 1 else "")


def roc(material: Material) -> Figure:
    """A panel per pair, a curve per score."""
    runs = material.runs
    return roc_figure([
        (material.heading(pair, material.chosen_rows(pair), one_seed=True),
         [scored for chosen in runs.choose(pair) for _, scored in _scored(material, chosen)])
        for pair in runs.pairs
    ])  # fmt: skip


def densities(material: Material) -> Figure:
    """A panel per pair and score."""
    runs = material.runs
    return density_figure([
        (material.heading(pair, material.chosen_rows(pair), one_seed=True), scored)
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
        tables = stored.statistics(chosen.run)
        for name, scored in _scored(material, chosen):
            found = stored.compared(chosen.run, name)
            if found.members > 1:
                raise ConfigError(
                    f"{name} of {chosen.run.record['detector']} judges {found.members} images"
                    " together, and a group has no code length; name a score of single images"
                )
            sides = [
                np.array([known[i] for i in table["index"][kept].tolist()])
                for known, table, kept in zip(
                    by_index, tables, (found.id_rows, found.ood_rows), strict=True
                )
            ]
            shown.append(Complexity(scored, *sides))
    drawn = material.chosen_rows(material.pair)
    return complexity_figure(material.heading(material.pair, drawn, one_seed=True), shown)


def forest(material: Material) -> Figure:
    """Every detector with the scores that tables show, those without a model last."""
    runs = material.runs
    scores = {request.name: request for request in runs.requests}
    estimates, drawn = [], []
    for group in sorted(runs.all_groups(material.pair), key=_order):
        names = shown_scores(group, scores.get(str(group.first["detector"])), False)
        for row in make_rows(group, names):
            drawn.append(row)
            cell = row.cells["auroc"]
            spread = cell.sd if cell.sd is not None else 0.0
            low = cell.low if cell.low is not None else cell.value - spread
            high = cell.high if cell.high is not None else cell.value + spread
            estimates.append(
                Estimate(
                    row.detector,
                    row.score,
                    cell.value,
                    low,
                    high,
                    len(row.seeds),
                    recipe_label(group),
                    row.tag or category_tag(row.category),
                )
            )
    return forest_figure(material.heading(material.pair, drawn), estimates)


def _order(group: Group) -> tuple[object, ...]:
    names = ("category", "detector", "recipe", "scale")
    return (group.first["detector"] in TRIVIAL, *(str(group.first[name]) for name in names))
