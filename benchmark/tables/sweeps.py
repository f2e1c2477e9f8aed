"""A sweep as tables: the choices of a value side by side, every value; and as tidy rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oodbench.datasets.pairs import Pair
from oodbench.declare.layouts import Column
from oodbench.errors import StoreError
from oodbench.flow.run_records import BY_HAND, shown_notes
from oodbench.leaderboards.head_to_head import p_text
from oodbench.leaderboards.paired_tests import PairedScores, seed_difference
from oodbench.leaderboards.rounding import as_shown, shown
from oodbench.leaderboards.row_formats import traced
from oodbench.leaderboards.rows import CATEGORY_LEGEND, category_tag
from oodbench.store.store import Store
from oodbench.sweeps.results import Setting, Spread, Swept, short_names
from oodbench.tables.layout.filled import head_lines
from oodbench.tables.layout.grid import BLANK, Cell, Document, Grid, Line, Panel
from oodbench.tables.layout.markup import literal
from oodbench.tables.render.formats import RENDERERS
from oodbench.tables.render.text import render_text
from oodbench.tables.tidy import rows_to_csv, rows_to_json

COLUMNS = (
    "in_dist", "ood", "detector", "recipe", "score", "choice", "category", "parameter", "point",
    "dims", "metric", "value", "low", "high", "sd", "seeds", "n_per_side", "held_out_bits_per_dim",
    "kl_nats", "active_units", "difference", "difference_low", "difference_high", "p_holm", "runs",
    "notes",
)  # fmt: skip
DEFAULT, CHOSEN, ORACLE = "default", "chosen on ID data", "oracle"
SAME = "same"


@dataclass(frozen=True)
class Difference:
    """AUROC at the chosen value minus that at the default, percent, 95 % interval; p after Holm."""

    value: float
    low: float
    high: float
    p_value: float

    @property
    def text(self) -> str:
        """``+1.2 [0.4, 2.0], p = 0.01``."""
        value, low, high = (shown(end, 1, "+") for end in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}], {p_text(self.p_value)}"


#: By model, OOD set and score; None where the default itself was chosen.
Differences = dict[tuple[str, str, str], Difference | None]


def differences(found: Sequence[Swept], store: Store) -> Differences:
    """The chosen value against the default, never the oracle; Holm over all that are tested.

    One seed: paired DeLong over test images.  Several: paired t over training seeds.  StoreError
    where scores are gone.
    """
    from oodbench.rank.significance import holm

    scores, out = PairedScores(store), Differences()
    tested: dict[tuple[str, str, str], Difference] = {}
    for one in found:
        for pair in one.sweep.pairs:
            for score in one.default.scores():
                where = (one.label, pair.ood, score)
                out[where] = None
                if one.chosen.point.label != one.default.point.label:
                    tested[where] = _difference(one, pair, score, scores)
    adjusted = holm([difference.p_value for difference in tested.values()])
    for (where, d), p in zip(tested.items(), adjusted, strict=True):
        out[where] = Difference(d.value, d.low, d.high, p)
    return out


def _difference(one: Swept, pair: Pair, score: str, scores: PairedScores) -> Difference:
    shared = scores.paired_seeds(one.chosen.groups[pair.ood], one.default.groups[pair.ood])
    compared = [scores.compare(left, score, right, score) for _, left, right in shared]
    if not compared:
        raise StoreError(f"{one.label}: the chosen and the default value share no seed")
    if len(compared) == 1:
        (d,) = compared
        return Difference(100 * d.difference, 100 * d.low, 100 * d.high, d.p_value)
    over = seed_difference([d.difference for d in compared])
    return Difference(100 * over.mean, 100 * over.low, 100 * over.high, over.p_value)


def sweep_text(
    found: Sequence[Swept], store: Store, name: str, title: str, format_: str, shape: str = "tidy",
    *, styled: bool = False, width: int | None = None,
) -> str:  # fmt: skip
    """The tables in one of the formats of `oodbench.tables.render`, or as JSON; CSV as `shape`."""
    tested = differences(found, store)
    if format_ == "json":
        return rows_to_json(tidy_sweep(found, tested))
    if format_ == "csv" and shape == "tidy":
        return rows_to_csv(tidy_sweep(found, tested), COLUMNS)
    document = sweep_document(found, tested, name, title)
    if format_ == "table":
        return render_text(document, styled, width)
    return RENDERERS[format_](document)


# ---------------------------------------------------------------------- printed
def sweep_document(found: Sequence[Swept], tested: Differences, name: str, title: str) -> Document:
    """A panel per OOD set with the choices, then one per model with every value."""
    in_dist = found[0].sweep.pairs[0].in_dist
    panels = [
        Panel(_choices(found, pair.ood, tested), literal(f"ID: {in_dist}, OOD: {pair.ood}"))
        for pair in found[0].sweep.pairs
    ]
    panels += [
        Panel(_every_value(one), literal(f"{name}, every value"))
        for one, name in zip(found, short_names(found), strict=True)
    ]
    return Document(name, title, tuple(panels), tuple(_notes(found, tested)))


def _choices(found: Sequence[Swept], ood: str, tested: Differences) -> Grid:
    symbol = found[0].sweep.symbol
    value, area = Column(symbol, {}), Column("AUROC↑", {})
    tag = category_tag("oracle")
    columns = [
        Column(DEFAULT, {}, (value, area)),
        Column(CHOSEN, {}, (value, area, Column(f"− {DEFAULT}", {}))),
        Column(f"best AUROC {tag}", {}, (value, area)),
    ]
    body: list[Line] = []
    rules = set()
    for one, name in zip(found, short_names(found), strict=True):
        for number, score in enumerate(one.default.scores()):
            body.append(_choice_line(one, "" if number else name, ood, score, tested))
        rules.add(len(body) - 1)
    head = head_lines(["Model", "Score"], columns)
    return Grid("ll" + "c" * 7, tuple(head), tuple(body), frozenset(rules), frozenset({1, 3, 6}))


def _choice_line(one: Swept, name: str, ood: str, score: str, tested: Differences) -> Line:
    default, chosen, oracle = one.default, one.chosen, one.oracle(ood, score)
    left, right = default.auroc(ood, score), chosen.auroc(ood, score)
    a, b = as_shown(left.cell.value), as_shown(right.cell.value)
    differ = chosen.point.label != default.point.label
    difference = tested[one.label, ood, score]
    return (
        Cell(literal(name)),
        Cell(literal(score)),
        Cell(literal(default.point.short)),
        Cell(literal(left.text), bold=differ and a >= b),
        Cell(literal(chosen.point.short)),
        Cell(literal(right.text), bold=differ and b >= a),
        Cell(literal(difference.text if difference is not None else SAME)),
        Cell(literal(oracle.point.short)),
        Cell(literal(f"{oracle.auroc(ood, score).text} {category_tag('oracle')}")),
    )


def _every_value(one: Swept) -> Grid:
    scores, sweep = one.default.scores(), one.sweep
    columns = [
        Column(sweep.thing, {}),
        Column(f"{one.default.bound} held out↓", {}),
        Column("KL", {}),
        Column("Active", {}),
        *(
            Column(f"AUROC↑ {pair.ood}", {}, tuple(Column(score, {}) for score in scores))
            for pair in sweep.pairs
        ),
    ]  # fmt: skip
    body: list[Line] = []
    for setting in one.settings:
        cells = [
            _value_text(one, setting), setting.point.label, _bits(setting.criterion),
            " / ".join(_short(kl.mean) for kl in setting.kl()),
            " ".join(_active(setting)),
            *(_area(one, setting, pair.ood, score) for pair in sweep.pairs for score in scores),
        ]  # fmt: skip
        body.append(tuple(Cell(literal(text)) if text else BLANK for text in cells))
    wide = len(scores) * len(sweep.pairs)
    gaps = frozenset(4 + len(scores) * i for i in range(len(sweep.pairs)))
    head = head_lines([sweep.symbol], columns)
    return Grid("ll" + "c" * (3 + wide), tuple(head), tuple(body), gaps=gaps)


def _value_text(one: Swept, setting: Setting) -> str:
    marks = [setting.point.short]
    marks += [DEFAULT] if setting is one.default else []
    marks += [CHOSEN] if setting is one.chosen else []
    return ", ".join(marks)


def _area(one: Swept, setting: Setting, ood: str, score: str) -> str:
    cell = setting.auroc(ood, score).cell
    text = shown(cell.value) + (f"±{shown(cell.sd)}" if cell.sd is not None else "")
    best = setting is one.oracle(ood, score)
    return f"{text} {category_tag('oracle')}" if best else text


def _bits(found: Spread) -> str:
    return f"{found.mean:.3f}" + (f"±{found.sd:.3f}" if found.sd is not None else "")


def _short(nats: float) -> str:
    return f"{nats:.0e}" if nats and abs(nats) < 0.1 else f"{nats:.1f}"


def _active(setting: Setting) -> list[str]:
    """``16/16``; the mean over seeds with a decimal where it is no whole number."""
    return [
        f"{count.mean:.0f}/{units}" if count.mean.is_integer() else f"{count.mean:.1f}/{units}"
        for count, units in setting.active()
    ]


def _notes(found: Sequence[Swept], tested: Differences) -> list[str]:
    first, seeds = found[0], len(found[0].sweep.seeds)
    records = [group.first for one in found for s in one.settings for group in s.groups.values()]
    sizes = {f"{record['ood']}: {record['n']:,}" for record in records}
    notes = [f"Images of each side: {'; '.join(sorted(sizes))}. Scale {first.sweep.scale}."]
    images = "95 % DeLong intervals over test images"
    notes.append(
        f"AUROC in percent: mean ± sample standard deviation over {seeds} training seeds; [low,"
        f" high]: {images}, the ends averaged over the seeds." if seeds > 1 else
        f"AUROC in percent, one seed; [low, high]: {images}."
    )  # fmt: skip
    bound, symbol = "L" if first.sweep.whole_bound else "L>L−1", first.sweep.symbol
    notes.append(
        f"C{CHOSEN[1:]}: the {symbol} of the lowest held-out bits/dim of {bound}, on"
        f" {_held_out(first)}; ties go to the smaller {symbol}."
        " KL in nats and active units of layers 1, 2, … on ID test images."
    )
    notes += [f"{CATEGORY_LEGEND['oracle']}; its {first.sweep.symbol} is the best of the OOD set."]
    count = sum(difference is not None for difference in tested.values())
    if count:
        how = "paired t over training seeds" if seeds > 1 else "paired DeLong over test images"
        notes.append(
            f"− {DEFAULT}: difference of AUROCs, {how}, 95 % interval, p after Holm over {count}"
            " comparisons. Bold: the better of default and chosen."
        )
    notes += dict.fromkeys(note for one in found for note in one.sweep.notes)
    # What the points set by hand stands in their rows.
    said = [n for record in records for n in shown_notes(record) if not n.endswith(BY_HAND)]
    return [*notes, *dict.fromkeys(said)]


def _held_out(one: Swept) -> str:
    found = one.default.held_out[0]
    where = "test images" if found.split == "test" else "training images left out of every fit"
    return f"{len(found.scores['L']):,} ID {where}"


# ---------------------------------------------------------------------- tidy
def tidy_sweep(found: Sequence[Swept], tested: Differences) -> list[dict[str, object]]:
    """One mapping of `COLUMNS` per model, OOD set, score and value, then one per choice."""
    rows = []
    for one in found:
        for pair in one.sweep.pairs:
            for score in one.default.scores():
                rows += [_tidy(one, s, pair.ood, score, "") for s in one.settings]
                rows.append(_tidy(one, one.default, pair.ood, score, DEFAULT))
                chosen = _tidy(one, one.chosen, pair.ood, score, CHOSEN)
                d = tested[one.label, pair.ood, score]
                if d is not None:
                    chosen |= {"difference": d.value, "difference_low": d.low,
                               "difference_high": d.high, "p_holm": d.p_value}  # fmt: skip
                rows.append(chosen)
                rows.append(_tidy(one, one.oracle(pair.ood, score), pair.ood, score, ORACLE))
    return rows


def _tidy(one: Swept, setting: Setting, ood: str, score: str, choice: str) -> dict[str, object]:
    row, estimate = setting.row(ood, score), setting.auroc(ood, score)
    cell = estimate.cell
    values = (
        setting.first["in_dist"], ood, row.detector, row.recipe, score, choice,
        "oracle" if choice == ORACLE else row.category, one.sweep.symbol, setting.point.value,
        setting.point.label, "auroc", cell.value, estimate.low, estimate.high, cell.sd, cell.seeds,
        row.n, setting.criterion.mean, " ".join(f"{kl.mean:.4g}" for kl in setting.kl()),
        " ".join(_active(setting)), None, None, None, None,
        *traced(row.runs, row.notes),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))
