"""Ours against the paper's: value, interval, published value, difference, inside or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from oodbench.datasets.pairs import get_pair
from oodbench.declare.layouts import Column, Layout
from oodbench.detect.detector import DETECTORS
from oodbench.leaderboards.rounding import shown
from oodbench.tables.layout.filled import Filled, fill, head_lines
from oodbench.tables.layout.grid import Cell, Document, Grid, Line, Panel
from oodbench.tables.layout.markup import Text, literal, parse
from oodbench.tables.sources.numbers import Missing, Number, Source, decimals_of
from oodbench.tables.sources.reported_tables import Published, base_name, ood_name
from oodbench.tables.tidy import COLUMNS as TIDY
from oodbench.tables.tidy import quantity, tidy_cell

COLUMNS = (*TIDY, "interval_low", "interval_high", "interval_of", "paper", "paper_sd",
           "difference", "inside", "category", "passes")  # fmt: skip
#: Diagnostics of which no head of a column speaks.
WORDS = {"kl_nats": "KL in nats", "bits_per_dim": "bits/dim"}
IMAGES, SEEDS = "test images", "training seeds"


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of our number, and what varies in it."""

    low: float
    high: float
    of: str

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Comparison:
    """One cell: ours (or nothing) and the published number (or nothing)."""

    ours: Filled
    paper: Number | None

    @property
    def interval(self) -> Interval | None:
        """Where a published value should lie if it came from what we ran.

        One seed: the interval over test images, for this one trained model.  Several: the 95 %
        prediction interval of one more training, mean ± t·sd·√(1 + 1/n), metrics cut to 0–100.
        None for a number without an uncertainty.
        """
        number = self.ours.number
        if number is None:
            return None
        if number.sd is None:
            if number.low is None or number.high is None:
                return None
            return Interval(number.low, number.high, IMAGES)
        from scipy.special import stdtrit

        half = float(stdtrit(number.seeds - 1, 0.975)) * number.sd * math.sqrt(1 + 1 / number.seeds)
        low, high = number.value - half, number.value + half
        if "metric" in self.ours.query:
            low, high = max(0.0, low), min(100.0, high)
        return Interval(low, high, SEEDS)

    @property
    def declared(self) -> tuple[str, str]:
        """Category and passes per image that the row's detector declares; "" if it is not here."""
        name = str(self.ours.query.get("detector", ""))
        if name not in DETECTORS.names():
            return "", ""
        cls = DETECTORS.get(name)
        return cls.category, cls.cost

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        number = self.ours.number
        return None if number is None or self.paper is None else number.value - self.paper.value

    @property
    def inside(self) -> bool | None:
        """Whether the paper's value lies inside our interval; None where that has no answer."""
        if self.interval is None or self.paper is None:
            return None
        return self.interval.holds(self.paper.value)


def compare_with_paper(layout: Layout, source: Source) -> list[Comparison]:
    """Every cell that has a number of ours or of the paper's, in the order of the layout."""
    published = Published(layout)
    out = []
    for cell in fill(layout, source):
        found = published.number(cell.query)
        paper = None if isinstance(found, Missing) else found
        if cell.number is not None or paper is not None:
            out.append(Comparison(cell, paper))
    return out


def tidy_comparisons(layout: Layout, rows: Sequence[Comparison]) -> list[dict[str, object]]:
    """One mapping of `COLUMNS` per cell."""
    out = []
    for row in rows:
        interval = row.interval
        bounds = (interval.low, interval.high, interval.of) if interval else (None, None, None)
        paper = (row.paper.value, row.paper.sd) if row.paper else (None, None)
        more = (*bounds, *paper, row.difference, row.inside, *row.declared)
        out.append(tidy_cell(layout, row.ours) | dict(zip(COLUMNS[len(TIDY) :], more, strict=True)))
    return out


def paper_document(layout: Layout, rows: Sequence[Comparison], notes: Sequence[str]) -> Document:
    """The comparison as a table, one line per cell of the layout."""
    heads = ("ID", "OOD", "Row", "Quantity", "Ours", "95 % interval", "Paper", "Ours − paper",
             "Inside", "Category", "Passes")  # fmt: skip
    head = head_lines(heads[:4], [Column(title, {}) for title in heads[4:]])
    body: list[Line] = [tuple(Cell(text) for text in _texts(row)) for row in rows]
    grid = Grid("llll" + "c" * 5 + "ll", tuple(head), tuple(body))
    known = [row.inside for row in rows if row.inside is not None]
    summary = []
    if known:
        summary.append(
            f"Inside: {sum(known)} of {len(known)} published values that ours can speak of."
        )
    kinds = {row.interval.of for row in rows if row.interval}
    if IMAGES in kinds:
        summary.append(f"{IMAGES.capitalize()}: 95 % interval for the one trained model of a seed.")
    if SEEDS in kinds:
        summary.append(
            f"{SEEDS.capitalize()}: 95 % prediction interval of one more training"
            " (mean ± t·sd·√(1 + 1/n))."
        )
    title = f"{layout.title}: ours and the paper's ({layout.source})"
    return Document(f"{layout.name}-paper", title, (Panel(grid),), (*summary, *notes))


def _texts(row: Comparison) -> list[Text]:
    query, ours, paper = row.ours.query, row.ours.number, row.paper
    pair = get_pair(str(query["pair"]))
    only_id = str(query.get("side", "")).startswith("id_")
    either = ours or paper
    assert either is not None
    wanted = row.ours.column.decimals
    decimals = decimals_of(either, query, wanted)
    scientific = row.ours.column.scientific

    def number(value: float | None, sign: str = "") -> str:
        if value is None:
            return ""
        return f"{value:{sign}.{decimals}e}" if scientific else shown(value, decimals, sign)

    interval = ""
    if row.interval:
        interval = f"[{number(row.interval.low)}, {number(row.interval.high)}] {row.interval.of}"
    spread = f" ± {number(ours.sd)}" if ours and ours.sd is not None else ""
    inside = {True: "yes", False: "no", None: ""}[row.inside]
    return [
        literal(base_name(pair.in_dist)),
        literal("" if only_id else ood_name(query, pair)),
        parse(", ".join(part for part in (row.ours.row.label, row.ours.column.of) if part)),
        _quantity(row),
        literal(number(ours.value) + spread if ours else ""),
        literal(interval),
        parse(_printed(paper)),
        literal(number(row.difference, "+")),
        literal(inside),
        *map(literal, row.declared),
    ]


def _quantity(row: Comparison) -> Text:
    """``LLR_ada AUROC``; of a diagnostic the heads of its column, in the layout's words."""
    query = row.ours.query
    if "metric" in query:
        parts = query.get("score"), str(query["metric"]).upper()
        return literal(" ".join(str(part) for part in parts if part))
    heads = " ".join(head for head in row.ours.column.heads if head)
    return parse(heads) if heads else literal(WORDS.get(str(query["diagnostic"]), quantity(query)))


def _printed(paper: Number | None) -> str:
    if paper is None:
        return ""
    mantissa, _, exponent = paper.printed.partition("×10^")
    return f"{mantissa}×10^{{{exponent}}}" if exponent else mantissa
