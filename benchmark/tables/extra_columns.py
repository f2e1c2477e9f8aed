"""Columns on demand: cost, diagnostics, papers' values, years, the pair reversed, trivial ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from oodbench.canonical_json import JSON
from oodbench.detect.detector import DETECTORS
from oodbench.detect.years import method_year
from oodbench.errors import UnknownNameError
from oodbench.leaderboards.board import Board, Place
from oodbench.leaderboards.id_positive import id_positive
from oodbench.leaderboards.rounding import shown
from oodbench.leaderboards.significance_marks import Family, beats_trivial
from oodbench.tables.sources.reported_scores import Papers

if TYPE_CHECKING:
    from oodbench.diagnosis import StoredDiagnoses
    from oodbench.leaderboards.paired_tests import PairedScores

Value: TypeAlias = "float | str | None"


@dataclass(frozen=True)
class Extra:
    """A column: its head, its name in CSV, its value and how that is shown.

    One that is not `per_score` says the same of all scores of a detector, and is printed once.
    One that is not `printed` stands in CSV and JSON only.  One `of_lowest_seed` says what the run
    with the lowest seed says.
    """

    head: str
    name: str
    value: Callable[[Place], Value]
    decimals: int = 1
    per_score: bool = False
    printed: bool = True
    of_lowest_seed: bool = False

    def text(self, place: Place) -> str:
        """What stands in the table; "" where the run does not know."""
        value = self.value(place)
        return shown(value, self.decimals, ",") if isinstance(value, float) else value or ""


def _cost(name: str) -> Callable[[Place], Value]:
    def value(place: Place) -> Value:
        found = cast("Mapping[str, JSON]", place.group.first["cost"]).get(name)
        return float(found) if isinstance(found, int | float) else cast("str | None", found)

    return value


def _diagnostic(side: str, name: str) -> Callable[[Place], Value]:
    def value(place: Place) -> Value:
        sides = cast("Mapping[str, Mapping[str, JSON]]", place.group.first["diagnostics"])
        found = sides.get(side, {}).get(name)
        if isinstance(found, list | tuple):
            return " / ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in found)
        return float(found) if isinstance(found, int | float) else None

    return value


def _percent(name: str) -> Callable[[Place], Value]:
    """A share of the ID test images, as a percentage."""
    share = _diagnostic("id_test", name)

    def value(place: Place) -> Value:
        found = share(place)
        return 100.0 * found if isinstance(found, float) else None

    return value


def _first_seed(head: str, name: str, value: Callable[[Place], Value], decimals: int = 1) -> Extra:
    return Extra(head, name, value, decimals, of_lowest_seed=True)


EXTRAS: Mapping[str, Sequence[Extra]] = {
    "cost": (
        _first_seed("Train s", "train_seconds", _cost("train_seconds"), 0),
        _first_seed("ms/image", "ms_per_image", _cost("ms_per_image"), 2),
        _first_seed("Passes", "passes", _cost("passes")),
        _first_seed("Peak MB", "peak_memory_mb", _cost("peak_memory_mb"), 0),
        _first_seed("Parameters", "parameters", _cost("parameters"), 0),
    ),
    "diagnostics": (
        _first_seed(
            "bits/dim train", "bits_per_dim_train", _diagnostic("id_train", "bits_per_dim"), 3
        ),
        _first_seed(
            "bits/dim test", "bits_per_dim_test", _diagnostic("id_test", "bits_per_dim"), 3
        ),
        _first_seed("KL nats", "kl_nats", _diagnostic("id_test", "kl_nats")),
        _first_seed("Active", "active_units", _diagnostic("id_test", "active_units")),
    ),
    "classifier": (
        _first_seed("Accuracy", "accuracy", _percent("accuracy")),
        _first_seed("ECE", "calibration_error", _percent("calibration_error")),
    ),
}
NAMES = (*EXTRAS, "id-positive", "paper", "reverse", "trivial", "year")


def parse_columns(text: str) -> list[str]:
    """``cost,trivial`` taken apart; UnknownNameError lists the valid names."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in NAMES:
            raise UnknownNameError("columns", name, NAMES)
    return list(dict.fromkeys(names))


def chosen_extras(
    names: Sequence[str],
    board: Board,
    trivial: Family | None,
    diagnoses: StoredDiagnoses | None = None,
    scores: PairedScores | None = None,
) -> list[Extra]:
    """The columns of the named sets; `trivial` holds the tests where that set is among them.

    Where runs of the board were diagnosed, ``diagnostics`` has the columns of `diagnoses` too.
    """
    found: dict[str, Sequence[Extra]] = {
        **EXTRAS, "reverse": (_reverse(board),), "year": (Extra("Year", "year", _year),),
    }  # fmt: skip
    if scores is not None:
        found["id-positive"] = _id_positive(scores)
    if "paper" in names:
        found["paper"] = _beside_the_paper()
    if diagnoses is not None:
        found["diagnostics"] = (*EXTRAS["diagnostics"], *_diagnosed(board, diagnoses))
    extras = [extra for name in names for extra in found.get(name, ())]
    if trivial is None:
        return extras
    family = trivial
    index = {id(place): (i, pair) for pair in board.pairs for i, place in board.column(pair)}

    def beats(place: Place) -> Value:
        return beats_trivial(family, board, index[id(place)]) or None

    return [*extras, Extra("Beats trivial?", "beats_trivial", beats, per_score=True)]


def year_of(record: Mapping[str, JSON]) -> str:
    """The year of the method of a run: as its detector of today cites it, or as the run did."""
    name = str(record["detector"])
    known = name in DETECTORS.names() and name not in DETECTORS.broken()
    return method_year(DETECTORS.get(name).cite if known else str(record["cite"]))


def _year(place: Place) -> Value:
    return year_of(place.group.first) or None


def _diagnosed(board: Board, diagnoses: StoredDiagnoses) -> Sequence[Extra]:
    """I(x;z) and G_T of layers 1, 2, … as `oodbench diagnose` left them, for the lowest seed."""
    groups = {id(p.group): p.group for row in board.rows for p in row.places.values()}
    rows = {key: diagnoses.of(group.entries[0]) for key, group in groups.items()}
    if not any(rows.values()):
        return ()

    def column(head: str, name: str, decimals: int) -> Extra:
        def value(place: Place) -> Value:
            found = [float(cast(float, row[name])) for row in rows[id(place.group)]]
            return " / ".join(f"{v:.{decimals}f}" for v in found) or None

        return _first_seed(head, name, value)

    return (
        column("I(x;z) nats ≥", "information_nats", 2),
        column("G_T", "G_T_nats", 2),
        column("G_T fitted", "fitted_G_T_nats", 2),
    )


def _beside_the_paper() -> Sequence[Extra]:
    """The interval of our AUROC, and the value that a paper prints, percent."""
    papers = Papers()

    def interval(place: Place) -> Value:
        return place.row.cells["auroc"].interval or None

    def paper(place: Place) -> Value:
        printed = papers.auroc(place.group, place.score)
        return printed.number.value if printed else None

    def source(place: Place) -> Value:
        printed = papers.auroc(place.group, place.score)
        return printed.source if printed else None

    return (
        Extra("95 %", "auroc_interval", interval, per_score=True),
        Extra("Paper", "auroc_paper", paper, per_score=True),
        Extra("", "paper_source", source, per_score=True, printed=False),
    )


def _id_positive(scores: PairedScores) -> Sequence[Extra]:
    """The metrics of papers that count ID as positive, named so that nobody confuses them."""
    known: dict[tuple[int, str], Mapping[str, float]] = {}

    def column(head: str, name: str, metric: str) -> Extra:
        def value(place: Place) -> Value:
            where = id(place.group), place.score
            if where not in known:
                known[where] = id_positive(scores, place.group, place.score)
            return known[where][metric]

        return Extra(head, name, value, per_score=True)

    return (
        column("ID positive: FPR at TPR 95↓", "fpr_at_tpr95_id_positive", "fpr"),
        column("ID positive: AUPR↑", "auprc_id_positive", "auprc"),
    )


def _reverse(board: Board) -> Extra:
    """AUROC (percent) of the same score where ID and OOD are exchanged, from runs on the board.

    The same recipe and depth; nothing where several runs fit.
    """

    def name(place: Place, one: str, other: str) -> tuple[JSON, ...]:
        first = place.group.first
        same = ("detector", "recipe", "scale", "variant", "layers")
        return (first[one], first[other], *(first[part] for part in same), place.score)

    values: dict[tuple[JSON, ...], list[float]] = {}
    for row in board.rows:
        for place in row.places.values():
            known = values.setdefault(name(place, "in_dist", "ood"), [])
            known.append(place.row.cells["auroc"].value)

    def reverse(place: Place) -> Value:
        found = values.get(name(place, "ood", "in_dist"), [])
        return found[0] if len(found) == 1 else None

    return Extra("Reverse", "auroc_reverse", reverse, per_score=True)
