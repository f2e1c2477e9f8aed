"""From a selection to a figure: the builder of every kind, and what to say of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from oodbench.errors import ConfigError
from oodbench.figures import from_layers, from_models, from_scores
from oodbench.figures.chosen_runs import Runs, Selection, describe
from oodbench.figures.inputs import Material
from oodbench.figures.names import find_kind
from oodbench.figures.stored import Stored
from oodbench.flow.run_records import shown_notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oodbench.datasets.loading import DataPlaces
    from oodbench.store.store import Store

BUILDERS: Mapping[str, Callable[[Material], Figure]] = {
    "reconstructions": from_models.reconstructions,
    "roc": from_scores.roc,
    "densities": from_scores.densities,
    "comparison": from_models.reconstructions,
    "tsne": from_models.tsne,
    "draws": from_models.draws,
    "prior": from_models.prior,
    "auroc-by-k": from_layers.auroc_by_k,
    "kl": from_layers.kl,
    "complexity": from_scores.complexity,
    "training": from_layers.training,
    "forest": from_scores.forest,
}


@dataclass(frozen=True)
class Drawn:
    """A figure, the pairs it shows, and what a reader must know of where it comes from."""

    figure: Figure
    pairs: tuple[str, ...]
    notes: tuple[str, ...]


def build(name: str, selection: Selection, store: Store, places: DataPlaces) -> Drawn:
    """The figure of a name or number, from finished runs.

    Raises UnknownNameError on a figure that does not exist, MissingRunError where the store lacks
    what it shows, ConfigError where the selection does not suit it.
    """
    kind = find_kind(name)
    if len(selection.pairs) > 1 and not kind.several_pairs:
        raise ConfigError(f"figure {kind.name} takes one --pair, not {len(selection.pairs)}")
    if not selection.detectors:
        selection = replace(selection, detectors=kind.detectors)
    runs = Runs(store, selection)
    figure = BUILDERS[kind.name](Material(runs, Stored(store, places)))
    every_seed = kind.every_seed and selection.seed is None
    return Drawn(figure, tuple(runs.pairs), tuple(_notes(runs, every_seed)))


def _notes(runs: Runs, every_seed: bool) -> list[str]:
    notes = list[str]()
    for pair in runs.pairs:
        groups = runs.all_groups(pair)
        shown = [f"{len(groups)} detectors"]
        if runs.requests:
            shown = [describe(chosen, every_seed) for chosen in runs.choose(pair)]
        record = groups[0].first
        notes.append(f"{pair} (ID: {record['in_dist']}, OOD: {record['ood']}): {'; '.join(shown)}")
        notes += [note for group in groups for note in shown_notes(group.first)]
    return list(dict.fromkeys([*notes, *runs.notes]))
