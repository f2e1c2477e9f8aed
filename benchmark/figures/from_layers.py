"""Builders of the figures that show what the layers of hierarchical VAEs do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from oodbench.canonical_json import JSON
from oodbench.errors import ConfigError
from oodbench.figures.chosen_runs import Chosen
from oodbench.figures.inputs import Material
from oodbench.figures.layers import (
    ByK,
    LayerKL,
    TrainingLog,
    auroc_by_k_figure,
    kl_figure,
    training_figure,
)
from oodbench.leaderboards.board import shown_scores
from oodbench.leaderboards.rows import overrides_of, titled
from oodbench.leaderboards.stored_groups import recipe_label
from oodbench.sweeps.settling import Curve, Trained, families, trained_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oodbench.flow.plan import DetectorRequest
    from oodbench.store.store import Entry


def auroc_by_k(material: Material) -> Figure:
    """LLR>k and L>k of every model; L>0 is L."""
    shown = []
    for pair in material.runs.pairs:
        families = []
        for chosen in material.layered(pair):
            scores = cast("Mapping[str, Mapping[str, JSON]]", chosen.run.record["scores"])
            for family in ("LLR>", "L>"):
                names = {k: f"{family}{k}" for k in range(int(str(chosen.run.record["layers"])))}
                if family == "L>":
                    names[0] = "L"
                known = {k: name for k, name in names.items() if name in scores}
                if known:
                    families.append(_by_k(chosen.label, f"{family}k", known, scores))
        shown.append((material.heading(pair, material.chosen_rows(pair)), families))
    return auroc_by_k_figure(shown)


def _by_k(
    model: str, family: str, names: Mapping[int, str], scores: Mapping[str, Mapping[str, JSON]]
) -> ByK:
    intervals = [cast("Mapping[str, float]", scores[name]["auroc"]) for name in names.values()]
    value, low, high = (
        100 * np.array([interval[part] for interval in intervals])
        for part in ("value", "low", "high")
    )
    return ByK(model, family, np.array(list(names)), value, low, high)


def kl(material: Material) -> Figure:
    """The pass that gave the ELBO, on all images that were measured."""
    shown = []
    for pair in material.runs.pairs:
        for chosen in material.layered(pair):
            id_kl, ood_kl = (table["kl_0"] for table in material.stored.statistics(chosen.run))
            record = chosen.run.record
            title = f"{chosen.label}\n{record['in_dist']} (ID), {record['ood']} (OOD)"
            shown.append(LayerKL(title, id_kl, ood_kl))
    return kl_figure(shown)


def training(material: Material) -> Figure:
    """Every fit of the runs, of all seeds where none is named."""
    logs = []
    for chosen in material.runs.choose(material.pair):
        every = material.runs.selection.seed is None
        for run in chosen.group.entries if every else [chosen.run]:
            for fit in material.stored.fits(run):
                columns = material.stored.log(fit)
                if columns is not None:
                    logs.append(TrainingLog(_member(chosen, fit), columns))
    if not logs:
        raise ConfigError("none of these detectors is trained in epochs; name one with a recipe")
    return training_figure(logs)


def _member(chosen: Chosen, fit: Entry) -> str:
    """The detector; a fit of another variant, such as a background model, says which."""
    variant = str(fit.record.get("variant", ""))
    own = variant == chosen.run.record["variant"]
    return chosen.label if own else f"{chosen.label}, {variant}"


def settling_curves(material: Material) -> list[Curve]:
    """A curve per pair and detector: the newest of its trainings that has several budgets.

    MissingRunError where a detector has none.
    """
    return [
        _settling(material, request, pair)
        for pair in material.runs.pairs
        for request in material.runs.requests
    ]


def _settling(material: Material, request: DetectorRequest, pair: str) -> Curve:
    runs = material.runs
    groups = runs.of_seed(runs.configurations(replace(request, mark=""), pair))
    trained = [group for group in groups if group.first["recipe"]]
    found = [
        one
        for one in families(trained, lambda run: _trained(material, run))
        if len(one) > 1
        and any(str(b.group.first["configuration"]).startswith(request.mark) for b in one)
    ]
    if not found:
        raise runs.one_budget(request, pair)
    newest = max(found, key=lambda one: max(budget.group.newest for budget in one))
    group = newest[0].group
    several = [r.name for r in runs.requests].count(request.name) > 1
    label = f"{titled(group.first)} {recipe_label(group)}" if several else titled(group.first)
    own = [text for text in overrides_of(group.first) if not text.startswith("training.epochs=")]
    label = " ".join([label, *own])
    return Curve(label, tuple(shown_scores(group, request, False)), newest, len(found) - 1)


def _trained(material: Material, run: Entry) -> Trained:
    fits = material.stored.fits(run)
    log = next(log for fit in fits if (log := material.stored.log(fit)) is not None)
    columns = {name: values.tolist() for name, values in log.items()}
    return trained_with(run, fits, material.stored.measured(run)[0], columns)
