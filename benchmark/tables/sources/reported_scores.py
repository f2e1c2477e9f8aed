"""What the papers print of a score that ran here, looked up over all published tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from oodbench.datasets.pairs import get_pair
from oodbench.declare.layout_files import find_layout, layout_names
from oodbench.flow.plan import simplified
from oodbench.tables.sources.numbers import Number
from oodbench.tables.sources.reported_tables import Published, base_name

if TYPE_CHECKING:
    from oodbench.declare.layouts import Select
    from oodbench.leaderboards.rows import Group


@dataclass(frozen=True)
class Printed:
    """A number of a paper in percent, the cell that it stands in, and the table."""

    number: Number
    cell: Select
    source: str

    def speaks_of(self, group: Group, score: str) -> bool:
        """Whether it is of that score of these runs; a cell without a score means the only one."""
        own = str(self.cell.get("score", ""))
        return (
            all(self.cell.get(name, group.first[name]) == group.first[name]
                for name in ("recipe", "layers"))
            and (simplified(own) == simplified(score) if own else len(group.score_names) == 1)
        )  # fmt: skip


class Papers:
    """The AUROCs of all published tables, the first that prints a number first."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], list[Printed]] = {}
        pair_of = cache(get_pair)  # a pair stands in many cells
        for name in layout_names():
            layout = find_layout(name)
            queries = [
                query for query in layout.queries()
                if layout.reference and query.get("metric") == "auroc" and "mean" not in query
            ]  # fmt: skip
            source = Published(layout) if queries else None
            for query in queries:
                pair = pair_of(str(query["pair"]))
                number = source.number(query, pair) if source is not None else None
                if isinstance(number, Number):
                    place = str(query["detector"]), base_name(pair.in_dist), base_name(pair.ood)
                    printed = Printed(number, query, layout.source)
                    self._known.setdefault(place, []).append(printed)

    def auroc(self, group: Group, score: str) -> Printed | None:
        """What a paper prints of a score of these runs; None where none does.

        The papers' models are those of the recipes at scale `paper`.
        """
        first = group.first
        if first.get("overrides"):
            return None  # settings that no paper has
        names = base_name(str(first["in_dist"])), base_name(str(first["ood"]))
        known = self._known.get((str(first["detector"]), *names), [])
        return next((one for one in known if one.speaks_of(group, score)), None)
