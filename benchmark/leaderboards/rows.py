"""Rows from run entries: detector and score, metrics with intervals.

A table is a pure view of what is stored; it computes nothing but means over seeds.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.declare.layouts import METRICS
from oodbench.flow.run_records import members_of, shown_notes
from oodbench.leaderboards.revisions import names_of, newest_revisions
from oodbench.leaderboards.rounding import cleaned, mean_percent, percent, shown
from oodbench.store.records.files import IMPORTED

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
            assert self.sd is not None
            return f"{shown(self.value)} ± {shown(self.sd)}"
        return f"{shown(self.value)} {self.interval}".rstrip()

    def below(self, chance: float) -> bool:
        """Whether a 95 % interval lies below `chance` as a whole.

        Of one seed that over test images, of several Student's of the mean over training seeds.
        """
        if self.sd is None:
            return self.high is not None and self.high < chance
        from scipy.special import stdtrit

        half = float(stdtrit(self.seeds - 1, 0.975)) * self.sd / math.sqrt(self.seeds)
        return self.value + half < chance

    @property
    def interval(self) -> str:
        """``[83.5, 84.7]``, the 95 % interval over test images; "" where seeds are several."""
        if self.low is None or self.high is None:
            return ""
        return f"[{shown(self.low)}, {shown(self.high)}]"


@dataclass(frozen=True)
class Row:
    """One score of one detector on one pair; `notes`: what a reader has to know of its runs.

    `name` is the detector as it is asked for, `detector` its title; `recipe` has the `scale` in it.
    `n` of each side: images, or groups of `members` images (0: of a number that is not recorded).
    `constant`: all images have the same score, with one seed at least.
    """

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
    members: int = 1
    constant: bool = False
    name: str = ""
    scale: str = ""

    @property
    def plain_recipe(self) -> str:
        """``F5`` of ``F5-small``; "" without a recipe."""
        return self.recipe.removesuffix(f"-{self.scale}")

    @property
    def seed(self) -> int | str:
        """The training seed, or ``0 1 2``."""
        return self.seeds[0] if len(self.seeds) == 1 else " ".join(map(str, self.seeds))

    @property
    def mark(self) -> str:
        """``!`` where fewer than 1 % of the scores are distinct, ``*`` where fewer than half."""
        if self.constant or self.distinct < COLLAPSED * 2 * self.n:
            return "!"
        return "*" if self.distinct < self.n else ""

    @property
    def label(self) -> str:
        """``Informative HVAE(3) LLR_ada``."""
        return f"{self.detector} {self.score}".strip()


@dataclass
class Group:
    """Runs of one detector, recipe, scale and pair that differ in the seed only.

    `first` is the record of the lowest seed, of which cost and diagnostics are shown.
    `mark` tells groups apart that bear the same names: a recipe that was changed, other images.
    `called` is the detector's name where another detector has the same title.
    `older`: how many runs of these names are left out for newer revisions, `beside`: how many of
    other settings or images in a suite's table.
    """

    first: Mapping[str, JSON]
    entries: list[Entry] = field(default_factory=list)
    mark: str = ""
    called: str = ""
    older: int = 0
    beside: int = 0

    @property
    def newest(self) -> str:
        """When the last of the runs was made (ISO 8601)."""
        return max(str(entry.record["created"]) for entry in self.entries)

    @property
    def title(self) -> str:
        """What tables call the detector, and what was changed by hand."""
        called = [f"({self.called})"] if self.called else []
        return " ".join([titled(self.first), *called, *overrides_of(self.first)])

    @property
    def score_names(self) -> list[str]:
        """The scores in their detector's order."""
        return list(cast("list[str]", self.first.get("score_order", self.first["scores"])))


def group_runs(entries: Iterable[Entry]) -> list[Group]:
    """Groups in the order of first appearance, each by seed; a run met twice counts once.

    Of runs of the same names and seed those by older revisions (of detector, model, its settings,
    random numbers, metrics) are left out.
    """
    kept, older = newest_revisions(entries)
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
        group.first = _marked(group.entries)
    counts = Counter(names_of(group.first) for group in found)
    bearers: dict[str, set[str]] = {}
    for group in found:
        bearers.setdefault(titled(group.first), set()).add(str(group.first["detector"]))
    for group in found:
        group.older = older.pop(names_of(group.first), 0)
        if len(bearers[titled(group.first)]) > 1:
            group.called = str(group.first["detector"])
        if counts[names_of(group.first)] > 1:
            group.mark = f"#{str(group.first['configuration'])[:4]}"
    return found


def _marked(entries: Sequence[Entry]) -> Mapping[str, JSON]:
    """The record of the first of several seeds, imported where any of them is."""
    record = entries[0].record
    imported = [entry for entry in entries if entry.imported]
    if not imported:
        return record
    origin = {**imported[0].imported}
    if len(imported) < len(entries):
        origin["seeds"] = f"{len(imported)} of {len(entries)} seeds"
    return {**record, IMPORTED: origin}


def overrides_of(record: Mapping[str, JSON]) -> tuple[str, ...]:
    """``training.epochs=1``: the settings that are not those of the recipe."""
    return tuple(cast("list[str]", record.get("overrides", [])))


def left_out_notes(groups: Iterable[Group]) -> list[str]:
    """Lines on the runs that tables leave out: of older revisions, and of others."""
    known = list(groups)
    older = [(group, group.older) for group in known]
    beside = [(group, group.beside) for group in known]
    return _left_out("by older revisions", older) + _left_out("of other settings or images", beside)


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
    title = group.title
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
                tag=tags(record),
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
                members=members_of(record, name),
                constant=any(_constant(run) for run in runs),
                name=str(record["detector"]),
                scale=str(record["scale"]),
            )
        )
    return rows


def _constant(run: Mapping[str, JSON]) -> bool:
    """Whether one score was given to all images of both sides."""
    sides = run["distinct_id"], run["distinct_ood"]
    return sides == (1, 1) and cast("Mapping[str, float]", run["auroc"])["value"] == 0.5


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
    if len(runs) > 1:
        _, sd = mean_and_sd([percent(metric, run) for run in runs])
        return Cell(mean_percent(metric, runs), None, None, sd, len(runs))
    only = cast("Mapping[str, float]", runs[0][metric])
    low, high = (cleaned(100.0 * only[end]) for end in ("low", "high"))
    return Cell(percent(metric, runs[0]), low, high, None, 1)


#: What the marks of `Row.mark` mean.
MARK_LEGEND = {
    "*": "* many ties: fewer than half of the scores are distinct",
    "!": "! collapsed: fewer than 1 % of the scores are distinct, or all are equal",
}
#: What the categories that are no plain unsupervised detector mean, as tables say it.
CATEGORY_LEGEND = {
    "ensemble": "[ensemble]: several trained models",
    "prior": "[prior]: rests on prior knowledge of OOD data, as Li et al. 2022 class it",
    "labels": "[labels]: uses the labels of the ID images",
    "imported": "[imported]: computed elsewhere; its numbers were not measured in this store",
    "oracle": "[oracle]: chosen with the OOD results known, not set beside the others",
}


def category_tag(category: str) -> str:
    """How a table marks a category: nothing for "unsupervised", else its name in brackets."""
    return "" if category == "unsupervised" else f"[{category}]"


def tags(record: Mapping[str, JSON]) -> str:
    """The marks behind a name: of its category, and of what was imported."""
    marks = [category_tag(str(record["category"])), "[imported]" if IMPORTED in record else ""]
    return " ".join(mark for mark in marks if mark)


def category_legend(rows: Iterable[Row]) -> list[str]:
    """The legend of the marks that the rows carry."""
    shown = {name for row in rows for name in (*re.findall(r"\[(\w+)\]", row.tag), row.category)}
    return [text for name, text in CATEGORY_LEGEND.items() if name in shown]


def mark_legend(rows: Iterable[Row]) -> list[str]:
    """The legend of the marks of ties and collapse that the rows carry."""
    shown = {row.mark for row in rows}
    return [text for mark, text in MARK_LEGEND.items() if mark in shown]
