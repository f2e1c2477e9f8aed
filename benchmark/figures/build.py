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
from oodbench.figures.sweeps import settling_figure
from oodbench.flow.run_records import BY_HAND, shown_notes
from oodbench.tables.settling import COLUMNS, tidy_settling
from oodbench.tables.tidy import rows_to_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from oodbench.datasets.loading import DataPlaces
    from oodbench.store.store import Store
    from oodbench.sweeps.settling import Curve


@dataclass(frozen=True)
class Drawn:
    """A figure, the pairs it shows, and what a reader must know of where it comes from.

    `values`: what it draws as CSV, "" of a figure that does not give it.
    """

    figure: Figure
    pairs: tuple[str, ...]
    notes: tuple[str, ...]
    values: str = ""


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
    material = Material(runs, Stored(store, places))
    made = BUILDERS[kind.name](material)
    if isinstance(made, Drawn):
        return made
    every_seed = kind.every_seed and selection.seed is None
    return Drawn(made, tuple(runs.pairs), tuple(_notes(runs, every_seed)))


def _settling(material: Material) -> Drawn:
    curves = from_layers.settling_curves(material)
    notes = [note for curve in curves for note in _settling_notes(curve)]
    values = rows_to_csv(tidy_settling(curves), COLUMNS)
    pairs = tuple(material.runs.pairs)
    return Drawn(settling_figure(curves), pairs, tuple(dict.fromkeys(notes)), values)


def _settling_notes(curve: Curve) -> list[str]:
    """Where the curve comes from, and what its budgets do not share."""
    record, last = curve.first, curve.budgets[-1].trained
    epochs = ", ".join(str(budget.trained.epochs) for budget in curve.budgets)
    by_seeds = {budget.row(curve.scores[0]).seeds for budget in curve.budgets}
    notes = [
        f"{record['pair']} (ID: {record['in_dist']}, OOD: {record['ood']}): {curve.label},"
        f" seed{'s' if len(curve.seeds) > 1 else ''} {', '.join(map(str, curve.seeds))}, after"
        f" {epochs} epochs of {last.images / last.epochs:,.0f} images"
    ]
    if len(by_seeds) > 1:
        notes.append(f"{curve.label}: not every budget has all seeds")
    if not last.shared:
        notes.append(f"{curve.label}: every budget is a training of its own, of another schedule")
    if curve.beside:
        other = "another training has" if curve.beside == 1 else f"{curve.beside} others have"
        notes.append(
            f"{curve.label}: {other} several budgets; the newest is drawn, or the one of a mark"
            f" that is named ({record['detector']}{curve.mark})"
        )
    shown = {note for budget in curve.budgets for note in shown_notes(budget.group.first)}
    return [*notes, *sorted(note for note in shown if not note.endswith(BY_HAND))]


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


#: Those that say themselves where their numbers come from give a `Drawn`.
BUILDERS: Mapping[str, Callable[[Material], Figure | Drawn]] = {
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
    "settling": _settling,
    "forest": from_scores.forest,
}
