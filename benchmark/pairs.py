"""Pairs of an ID and an OOD data set, by name; any two compatible data sets form one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import cast

from oodbench.datasets.spec import parse_name
from oodbench.errors import OodbenchError, UnknownNameError
from oodbench.yamlfile import read_yaml


@dataclass(frozen=True)
class Pair:
    """`in_dist` and `ood` are data-set names (with variants) or paths."""

    name: str
    in_dist: str
    ood: str
    tables: tuple[int, ...] = ()
    embedded: bool = False
    reading: str = ""

    def reversed(self) -> Pair:
        """The same two sets with their roles exchanged."""
        return make_pair(self.ood, self.in_dist)


@cache
def registered_pairs() -> dict[str, Pair]:
    """The pairs that ship with the package, by name."""
    raw = read_yaml(Path(str(files("oodbench") / "pairs.yaml")))
    out = {}
    for name, value in raw.items():
        body = cast("Mapping[str, object]", value)
        out[name] = Pair(
            name=name,
            in_dist=str(body["in_dist"]),
            ood=str(body["ood"]),
            tables=tuple(cast("list[int]", body.get("tables", []))),
            embedded=bool(body.get("embedded", False)),
            reading=str(body.get("reading", "")),
        )
    return out


def get_pair(name: str) -> Pair:
    """A registered pair, or any ``id-ood`` of two registered data sets (variants with "@").

    UnknownNameError lists the nearest registered pairs.
    """
    known = registered_pairs()
    if name in known:
        return known[name]
    for cut, char in enumerate(name):
        if char != "-":
            continue
        try:
            left, right = parse_name(name[:cut]), parse_name(name[cut + 1 :])
        except OodbenchError:
            continue
        if not left.is_path and not right.is_path:
            return make_pair(str(left), str(right))
    raise UnknownNameError("pair", name, known, "or name two data sets with --in-dist and --ood")


def make_pair(in_dist: str, ood: str) -> Pair:
    """The pair of two data sets, the registered one where there is one."""
    left, right = str(parse_name(in_dist)), str(parse_name(ood))
    for pair in registered_pairs().values():
        if (str(parse_name(pair.in_dist)), str(parse_name(pair.ood))) == (left, right):
            return pair

    def short(text: str) -> str:
        name = parse_name(text)
        return Path(name.base).stem + text.removeprefix(name.base) if name.is_path else text

    return Pair(f"{short(left)}-{short(right)}", left, right)
