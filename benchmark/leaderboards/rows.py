"""Rows from run entries: detector and score, metrics with intervals, as CSV and JSON too.

A table is a pure view of what is stored; it computes nothing but means over seeds.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.declare.layouts import METRICS
from oodbench.flow.run_records import shown_notes
from oodbench.media import csv_row

if TYPE_CHECKING:
    from oodbench.store.store import Entry

#: Share of distinct scores below which a score tells groups of images apart, not images.
COLLAPSED = 0.01


@dataclass(frozen=True)
class Cell:
    """One metric of one row, percent: mean over seeds, interval of one seed or sd of several."""

    value: float
    low: float | None
    high: float | None
    sd: float | None
    seeds: int

    @property
    def text(self) -> str:
        """``84.1 [83.5, 84.7]`` for one seed, ``84.1 ± 0.6`` for several."""
        if self.seeds > 1:
            return f"{self.value:.1f} ± {self.sd:.1f}"
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class Row:
    """One score of one detector on one pair; `notes`: what a reader has to know of its runs."""

    pair: str
    detector: str
    score: str
    recipe: str
    category: str
    seeds: tuple[int, ...]
    n: int
    cells: Mapping[str, Cell]
    distinct: int
    runs: tuple[str, ...]
    train_seconds: float | None = None
    ms_per_image: float | None = None
    tag: str = ""
    notes: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """``!`` where fewer than 1 % of the scores are distinct, ``*`` where fewer than half."""
        if self.distinct < COLLAPSED * 2 * self.n:
            return "!"
        return "*" if self.distinct < self.n else ""

    @property
    def label(self) -> str:
        """``Informative HVAE(3) LLR_ada``."""
        return f"{self.detector} {self.score}".strip()


@dataclass
class Group:
    """Runs of one detector, recipe, scale and pair that differ in the seed only.

    `mark` tells groups apart that bear the same names: a recipe that was changed, other images.
    `older`: how many runs of these names are left out for newer revisions, `beside`: how many of
    other settings in a suite's table.
    """

    first: Mapping[str, JSON]
    entries: list[Entry] = field(default_factory=list)
    mark: str = ""
    older: int = 0
    beside: int = 0

    @property
    def newest(self) -> str:
        """When the last of the runs was made (ISO 8601)."""
        return max(str(entry.record["created"]) for entry in self.entries)

    @property
    def score_names(self) -> list[str]:
        """The scores in their detector's order."""
        return list(cast("list[str]", self.first.get("score_order", self.first["scores"])))


def group_runs(entries: Iterable[Entry]) -> list[Group]:
    """Groups in the order of first appearance, each by seed; a run met twice counts once.

    Of runs of the same names and seed those by older revisions (of detector, model, its settings,
    random numbers, metrics) are left out.
    """
    kept, older = _newest_revisions(entries)
    groups: dict[tuple[JSON, ...], Group] = {}
    met: set[tuple[JSON, ...]] = set()
    for entry in kept:
        record = entry.record
        key = (record["pair"], record["in_dist"], record["ood"], record["configuration"])
        group = groups.setdefault(key, Group(record))
        if (*key, entry.digest) not in met:
            met.add((*key, entry.digest))
            group.entries.append(entry)
    found = list(groups.values())
    for group in found:
        group.entries.sort(key=lambda entry: int(cast(int, entry.record["seed"])))
    counts = Counter(_names(group.first) for group in found)
    for group in found:
        group.older = older.pop(_names(group.first), 0)
        if counts[_names(group.first)] > 1:
            group.mark = f"#{str(group.first['configuration'])[:4]}"
    return found


def _names(record: Mapping[str, JSON]) -> tuple[JSON, ...]:
    names = ("pair", "in_dist", "ood", "detector", "recipe", "scale", "variant")
    return tuple(record[name] for name in names)


def _newest_revisions(entries: Iterable[Entry]) -> tuple[list[Entry], Counter[tuple[JSON, ...]]]:
    """The runs that no newer revision answers for, and how many of each names are left out."""
    ranked: list[tuple[Entry, tuple[JSON, ...], tuple[int, ...]]] = []
    newest: dict[tuple[JSON, ...], tuple[int, ...]] = {}
    larger: set[tuple[JSON, ...]] = set()
    for entry in entries:
        same = (*_names(entry.record), entry.record["seed"])
        ranked.append((entry, same, _revisions(entry)))
        newest[same] = max(ranked[-1][-1], newest.get(same, ()))
        if _compares_with_more(entry):
            larger.add(same)
    older: Counter[tuple[JSON, ...]] = Counter()
    kept = []
    for entry, same, revisions in ranked:
        # Before a run's record had its reference, that was no larger than the ID test set.
        capped = same in larger and "reference" not in entry.record
        if capped or revisions < newest[same]:
            older[same[:-1]] += 1
        else:
            kept.append(entry)
    return kept, older


def _compares_with_more(entry: Entry) -> bool:
    """Whether a run's scores compare with more training images than there are ID test images."""
    bank = int(cast(int, entry.record.get("reference", 0)))
    return bank > 0 and bank > cast("Mapping[str, int]", entry.record["available"])["id"]


def _revisions(entry: Entry) -> tuple[int, ...]:
    source = cast("Mapping[str, JSON]", entry.record.get("source") or {})
    parts = (source.get("detector"), source.get("model"), entry.parts["metrics"])
    found = [cast("Mapping[str, int]", part or {}) for part in parts]
    revisions = [part.get("revision", 0) for part in found]
    noise = cast(int, entry.record.get("noise", 0))
    return (*revisions, found[1].get("settings_revision", 0), noise)


def left_out_notes(groups: Iterable[Group]) -> list[str]:
    """Lines on the runs that tables leave out: of older revisions, and of other settings."""
    known = list(groups)
    older = _left_out("by older revisions", [(group, group.older) for group in known])
    return older + _left_out("of other settings", [(group, group.beside) for group in known])


def _left_out(what: str, counts: Iterable[tuple[Group, int]]) -> list[str]:
    found = [(group, count) for group, count in counts if count]
    if not found:
        return []
    count = sum(count for _, count in found)
    names = [*dict.fromkeys(repr(group.first["detector"]) for group, _ in found)]
    who = ", ".join(names) if len(names) < 5 else f"{len(names)} detectors"
    return [f"{count} run{'s' if count > 1 else ''} {what} left out: {who}"]


def make_rows(group: Group, scores: Sequence[str] | None = None) -> list[Row]:
    """One row per score; `scores` selects and orders them."""
    record = group.first
    results = [cast("Mapping[str, Mapping[str, JSON]]", e.record["scores"]) for e in group.entries]
    names = group.score_names if scores is None else [s for s in scores if s in results[0]]
    title = titled(record)
    title += f" {group.mark}" if group.mark else ""
    scale = f"{record['recipe']}-{record['scale']}" if record["recipe"] else ""
    cost = cast("Mapping[str, float]", record["cost"])
    rows = []
    for name in names:
        runs = [result[name] for result in results]
        rows.append(
            Row(
                pair=str(record["pair"]),
                detector=title,
                score="" if name == "score" else name,
                recipe=scale,
                category="oracle" if "oracle" in runs[0] else str(record["category"]),
                tag=category_tag(str(record["category"])),
                seeds=tuple(int(cast(int, e.record["seed"])) for e in group.entries),
                n=int(cast(int, runs[0]["n_id"])),
                cells={metric: cell_of(runs, metric) for metric in METRICS},
                distinct=min(
                    int(cast(int, r["distinct_id"])) + int(cast(int, r["distinct_ood"]))
                    for r in runs
                ),
                runs=tuple(e.digest for e in group.entries),
                train_seconds=cost.get("train_seconds"),
                ms_per_image=cost.get("ms_per_image"),
                notes=tuple(shown_notes(record)),
            )
        )
    return rows


def titled(record: Mapping[str, JSON]) -> str:
    """``Informative HVAE(3)``; a title that names its model in brackets stays as it is."""
    title, depth = str(record["title"]), record["layers"]
    return f"{title}({depth})" if depth and "(" not in title else title


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n − 1) of two values or more, exactly rounded sums."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def cell_of(runs: Sequence[Mapping[str, JSON]], metric: str) -> Cell:
    """One metric of one score over the runs of a group, each as `Metrics.to_json` gives it."""
    intervals = [cast("Mapping[str, float]", run[metric]) for run in runs]
    values = [100.0 * interval["value"] for interval in intervals]
    if len(values) > 1:
        mean, sd = mean_and_sd(values)
        return Cell(mean, None, None, sd, len(values))
    only = intervals[0]
    return Cell(values[0], 100.0 * only["low"], 100.0 * only["high"], None, 1)


# ---------------------------------------------------------------------- formats
COLUMNS = (
    "pair", "detector", "score", "recipe", "category", "n_per_side", "seeds", "metric",
    "value", "low", "high", "sd", "runs", "notes",
)  # fmt: skip


def traced(runs: Sequence[str], notes: Sequence[str]) -> tuple[str, str]:
    """The last two columns of tidy rows: digests of the runs, and what has to be known of them."""
    return " ".join(run[:12] for run in runs), "; ".join(notes)


def tidy(rows: Sequence[Row]) -> list[dict[str, object]]:
    """One mapping of `COLUMNS` per row and metric, values in percent, None where there is none."""
    return [
        dict(zip(COLUMNS, (
            row.pair, row.detector, row.score, row.recipe, row.category, row.n, len(row.seeds),
            metric, cell.value, cell.low, cell.high, cell.sd,
            *traced(row.runs, row.notes),
        ), strict=True))
        for row in rows
        for metric, cell in row.cells.items()
    ]  # fmt: skip


def to_csv(rows: Sequence[Row]) -> str:
    """Tidy CSV of `COLUMNS`, four decimals."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for values in tidy(rows):
        cells = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in values.items()}
        writer.writerow(csv_row(cells))
    return out.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """A list of rows; metrics in percent with their interval or standard deviation."""
    return json.dumps([json_row(row) for row in rows], indent=1)


def json_row(row: Row) -> dict[str, object]:
    """A row as JSON wants it."""
    cells = {
        metric: {"value": c.value, "low": c.low, "high": c.high, "sd": c.sd}
        for metric, c in row.cells.items()
    }
    return {
        "pair": row.pair,
        "detector": row.detector,
        "score": row.score,
        "recipe": row.recipe,
        "category": row.category,
        "seeds": list(row.seeds),
        "n_per_side": row.n,
        "metrics": cells,
        "distinct_scores": row.distinct,
        "train_seconds": row.train_seconds,
        "ms_per_image": row.ms_per_image,
        "runs": list(row.runs),
        "notes": list(row.notes),
    }


#: What the categories that are no plain unsupervised detector mean, as tables say it.
CATEGORY_LEGEND = {
    "ensemble": "[ensemble]: several trained models",
    "prior": "[prior]: rests on prior knowledge of OOD data, as Li et al. 2022 class it",
    "labels": "[labels]: uses the labels of the ID images",
    "oracle": "[oracle]: chosen with the OOD results known, not set beside the others",
}


def category_tag(category: str) -> str:
    """How a table marks a category: nothing for "unsupervised", else its name in brackets."""
    return "" if category == "unsupervised" else f"[{category}]"


def category_legend(rows: Iterable[Row]) -> list[str]:
    """The legend of the marks that the rows carry."""
    shown = {name for row in rows for name in (row.tag[1:-1], row.category)}
    return [text for name, text in CATEGORY_LEGEND.items() if name in shown]
