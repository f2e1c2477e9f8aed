"""The store's runs as a source of numbers: which run answers what a cell asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from oodbench.canonical_json import JSON
from oodbench.datasets.pairs import get_pair, make_pair
from oodbench.declare.layouts import Layout, Select
from oodbench.declare.recipes import SCALES
from oodbench.errors import ConfigError
from oodbench.flow.run_records import members_of, shown_notes
from oodbench.leaderboards.rows import Group, cell_of, mean_and_sd, overrides_of, titled
from oodbench.leaderboards.set_means import OPENOOD, openood_mean
from oodbench.leaderboards.stored_groups import recipe_label, score_of
from oodbench.tables.images import Compared
from oodbench.tables.sources.numbers import Missing, Number


class Results:
    """Groups of runs, looked up by detector and pair; `scale` limits those that have one.

    `choices` and `answered` collect what a reader of the table must know of the runs that answered
    and of their images.
    """

    def __init__(self, groups: Iterable[Group], scale: str) -> None:
        self.scale = scale
        self.choices: dict[str, None] = {}
        self.answered: dict[tuple[str, str, str], Compared] = {}
        self._changed: set[tuple[str, str]] = set()
        self._groups: dict[tuple[str, str], list[Group]] = {}
        for group in groups:
            record = group.first
            if overrides_of(record):  # a layout asks for the recipe's own settings
                self._changed.add((str(record["detector"]), str(record["in_dist"])))
                continue
            if record["scale"] in (scale, ""):
                key = (str(record["detector"]), str(record["in_dist"]))
                self._groups.setdefault(key, []).append(group)

    def number(self, query: Select) -> Number | Missing:
        """The metric or diagnostic of the runs that match; percent for metrics."""
        if "mean" in query:
            return self._mean(query)
        group = self.find(query)
        if group is None:
            return Missing.NOT_RUN
        found = _metric(group, query) if "metric" in query else _diagnostic(group, query)
        if isinstance(found, Number):
            record = group.first
            where = str(record["pair"]), titled(record), str(query.get("score", ""))
            self.answered[where] = Compared(
                *where, found.n or 0, found.notes, found.members, found.seeds, str(record["scale"])
            )
        return found

    def _mean(self, query: Select) -> Number | Missing:
        """Over all sets of OpenOOD that are near, or far; of seeds that ran on every one."""
        in_dist, name = get_pair(str(query["pair"])).in_dist, str(query["mean"])
        if in_dist not in OPENOOD:
            raise ConfigError(f"a mean over {name} sets is known for {', '.join(OPENOOD)}")
        single = {key: value for key, value in query.items() if key != "mean"}
        pairs = [make_pair(in_dist, ood).name for ood in OPENOOD[in_dist][name]]
        found = [self.find({**single, "pair": pair}) for pair in pairs]
        groups = [group for group in found if group is not None]
        parts = [self.number({**single, "pair": pair}) for pair in pairs]
        numbers = [part for part in parts if isinstance(part, Number)]
        if len(groups) < len(pairs) or len(numbers) < len(pairs):
            return Missing.NOT_RUN
        score = score_of(groups[0], str(query.get("score", "")))
        cell = openood_mean(groups, score or "", str(query["metric"]))
        if cell is None:
            return Missing.NOT_RUN
        return Number(
            cell.value, sd=cell.sd, seeds=cell.seeds, recipe=numbers[0].recipe,
            runs=tuple(run for number in numbers for run in number.runs),
            notes=tuple(dict.fromkeys(note for number in numbers for note in number.notes)),
        )  # fmt: skip

    def find(self, query: Select) -> Group | None:
        """The runs a query asks for, or None.

        A diagnostic of the ID images is taken from any pair with that ID set.  Where runs of
        several configurations match, the newest answers, and a note says so.
        """
        pair = get_pair(str(query["pair"]))
        found = [
            group
            for group in self._groups.get((str(query["detector"]), pair.in_dist), [])
            if query.get("recipe", group.first["recipe"]) == group.first["recipe"]
            and query.get("layers", group.first["layers"]) == group.first["layers"]
        ]
        own = [group for group in found if group.first["ood"] == pair.ood]
        if own or not str(query.get("side", "")).startswith("id_"):
            found = own
        if len(own) > 1:
            shown = max(own, key=lambda group: group.newest)
            self.choices[
                f"{len(own)} configurations of {query['detector']} ran on {pair.name}; the newest,"
                f" #{str(shown.first['configuration'])[:4]}, is shown."
            ] = None
            return shown
        if not found and (str(query["detector"]), pair.in_dist) in self._changed:
            self.choices[
                f"{query['detector']} ran on {pair.in_dist} with settings of its own, which answer"
                " for no cell."
            ] = None
        return max(found, key=lambda group: group.newest) if found else None


def choose_scale(groups: Iterable[Group], queries: Iterable[Select]) -> str:
    """The scale at which most cells have a run, the larger of equals; "" where none has."""
    known = list(groups)
    wanted = list(queries)

    def cells(scale: str) -> int:
        results = Results((g for g in known if g.first["scale"] == scale), scale)
        return sum(results.find(query) is not None for query in wanted)

    counts = {scale: cells(scale) for scale in SCALES}
    best = max(SCALES, key=lambda scale: counts[scale])
    return best if counts[best] else ""


def results_for(groups: Sequence[Group], layout: Layout, scale: str = "") -> Results:
    """The source for a layout: one scale for the whole table, `scale` or that of most runs."""
    return Results(groups, scale or choose_scale(groups, layout.queries()))


def _metric(group: Group, query: Select) -> Number | Missing:
    score = score_of(group, str(query.get("score", "")))
    if score is None:
        return Missing.NOT_AVAILABLE
    records = [entry.record for entry in group.entries]
    scores = [cast("Mapping[str, Mapping[str, JSON]]", r["scores"])[score] for r in records]
    cell = cell_of(scores, str(query["metric"]))
    return Number(
        cell.value, cell.low, cell.high, cell.sd, cell.seeds,
        int(cast(int, scores[0]["n_id"])),
        recipe_label(group), tuple(entry.digest for entry in group.entries),
        tuple(shown_notes(group.first)), members=members_of(group.first, score),
    )  # fmt: skip


def _diagnostic(group: Group, query: Select) -> Number | Missing:
    values = []
    for entry in group.entries:
        sides = cast("Mapping[str, Mapping[str, JSON]]", entry.record["diagnostics"])
        found: JSON = sides.get(str(query.get("side", "id_test")), {}).get(str(query["diagnostic"]))
        if isinstance(found, list):
            index = int(query.get("index", 0))
            found = found[index] if index < len(found) else None
        if isinstance(found, str):
            found = _count(found)
        if not isinstance(found, int | float):
            return Missing.NOT_AVAILABLE
        values.append(float(found))
    several = len(values) > 1
    mean, sd = mean_and_sd(values) if several else (values[0], None)
    return Number(
        mean, sd=sd, seeds=len(values), recipe=recipe_label(group),
        runs=tuple(entry.digest for entry in group.entries),
        notes=tuple(shown_notes(group.first)),
    )  # fmt: skip


def _count(text: str) -> int | None:
    """12 of ``12/20``, as active units are written."""
    count = text.partition("/")[0]
    return int(count) if count.isdecimal() else None
