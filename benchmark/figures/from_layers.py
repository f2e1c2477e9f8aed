"""Builders of the figures that show what the layers of hierarchical VAEs do."""

from __future__ import annotations

from collections.abc import Mapping
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
