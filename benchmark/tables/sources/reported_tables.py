"""The papers' numbers as a source: the tables of `oodbench.reference`, read as they are."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files

from oodbench.datasets.naming import CORRUPTIONS, step_name
from oodbench.datasets.pairs import Pair, get_pair
from oodbench.declare.layouts import Layout, Select
from oodbench.errors import ConfigError
from oodbench.flow.plan import simplified
from oodbench.tables.sources.numbers import Missing, Number

FRACTION = re.compile(r"[01]\.\d+")


@dataclass(frozen=True)
class Key:
    """What names a published number; data sets in small letters, `ood` "" for ID alone."""

    in_dist: str
    ood: str
    model: str
    score: str
    metric: str


class Published:
    """The numbers of one published table."""

    def __init__(self, layout: Layout) -> None:
        self.numbers = read_reference(layout.reference)

    def number(self, query: Select, pair: Pair | None = None) -> Number | Missing:
        """The published number; a cell that the paper prints as "-" is not available.

        `pair` is that of the query, looked up where it is not given.
        """
        return self.numbers.get(key_of(query, pair), Missing.NOT_RUN)


def read_reference(name: str) -> dict[Key, Number | Missing]:
    """Every number of a reference file; ConfigError where there is no such file."""
    path = files("oodbench.reference") / name
    if not name or not path.is_file():
        raise ConfigError(f"no published numbers are known for this table (reference: {name!r})")
    numbers: dict[Key, Number | Missing] = {}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        key = Key(row["in_dist"].lower(), row["ood"].lower(), row["model"],
                  simplified(row["score"]), row["metric"].lower())  # fmt: skip
        numbers[key] = _number(row)
    return numbers


def _number(row: Mapping[str, str]) -> Number | Missing:
    if not row["value"]:
        return Missing.NOT_AVAILABLE
    sd = float(row["std"]) if row["std"] else None
    return Number(float(row["value"]), sd=sd, printed=in_percent(row["printed"], row["value"]))


def in_percent(printed: str, value: str) -> str:
    """What a paper prints, a fraction as the percentage that `value` is: ``91.0`` of ``0.910``.

    No digit is added and none lost; what is no fraction of the value stays as it is printed.
    """
    if not FRACTION.fullmatch(printed) or not Decimal(value):
        return printed
    percentage = Decimal(printed).scaleb(2)
    return f"{percentage:f}" if percentage == Decimal(value) else printed


def key_of(query: Select, pair: Pair | None = None) -> Key:
    """The published number that a cell stands for."""
    pair = pair or get_pair(str(query["pair"]))
    score = str(query.get("paper_score", query.get("score", ""))).format_map(query)
    metric = str(query.get("paper_metric", query.get("metric", query.get("diagnostic", ""))))
    only_id = str(query.get("side", "")).startswith("id_")
    return Key(
        base_name(pair.in_dist),
        "" if only_id else ood_name(query, pair),
        str(query.get("model", "")),
        simplified(score),
        metric.lower(),
    )


def ood_name(query: Select, pair: Pair) -> str:
    """The OOD set of a cell without its variant; of a mean what its sets are, ``near``."""
    return str(query.get("mean", base_name(pair.ood)))


def base_name(dataset: str) -> str:
    """A data set without its variant: ``lfwpeople@resize`` is ``lfwpeople`` in a paper.

    A corrupted set is another than the paper's and keeps its name.
    """
    base, *steps = dataset.split("@")
    return dataset if any(step_name(step) in CORRUPTIONS for step in steps) else base
