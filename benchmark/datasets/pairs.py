"""Pairs of an ID and an OOD data set, by name; any two compatible data sets form one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

from oodbench.datasets.naming import SIZING, exists, step_name
from oodbench.datasets.paths.outside_paths import note_path
from oodbench.datasets.spec import DatasetName, get_spec, parse_name, same_set
from oodbench.declare.declarations import Declarations, Source, checked_entry, sources
from oodbench.errors import OodbenchError


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


def registered_pairs() -> dict[str, Pair]:
    """The pairs of oodbench, of plug-ins and of the project, by name."""
    return _all_pairs(sources())


def built_in_pairs() -> set[str]:
    """The names of oodbench's own pairs."""
    declared = pair_declarations()
    return {name for name in declared.names() if declared.is_built_in(name)}


def pair_declarations() -> Declarations[Pair]:
    """Every ``pairs.yaml``: ``name: {in_dist, ood, reading}``."""
    return _declarations(sources())


@cache
def _all_pairs(_: tuple[Source, ...]) -> dict[str, Pair]:
    return pair_declarations().all()


@cache
def _declarations(_: tuple[Source, ...]) -> Declarations[Pair]:
    return Declarations[Pair]("pair").add_entries("pairs.yaml", _pair)


def _pair(source: Source, name: str, value: object) -> Pair:
    more = {"tables": list, "embedded": bool} if source.is_built_in else {}
    body = checked_entry(
        value, f"pair {name!r}", {"in_dist": str, "ood": str}, {"reading": str, **more}
    )
    for side in ("in_dist", "ood"):
        note_path(source, str(body[side]))
    return Pair(
        name=name,
        in_dist=str(body["in_dist"]),
        ood=str(body["ood"]),
        tables=tuple(cast("list[int]", body.get("tables", []))),
        embedded=bool(body.get("embedded", False)),
        reading=str(body.get("reading", "")),
    )


def get_pair(name: str) -> Pair:
    """A registered pair, or any ``id-ood`` of two data sets: registered, or folders that are there.

    UnknownNameError lists the nearest registered pairs; OodbenchError where several folders fit.
    """
    declared = pair_declarations()
    if name in declared:
        return declared.get(name)
    own: list[tuple[DatasetName, DatasetName]] = []
    for cut, char in enumerate(name):
        if char != "-":
            continue
        try:
            left, right = parse_name(name[:cut]), parse_name(name[cut + 1 :])
        except OodbenchError:
            continue
        if not left.is_path and not right.is_path:
            return make_pair(str(left), str(right))
        if all(not side.is_path or exists(side.base) for side in (left, right)):
            own.append((left, right))
    if len(own) > 1:
        read = " or ".join(f"--in-dist {left} --ood {right}" for left, right in own)
        raise OodbenchError(f"pair {name!r} can be read in {len(own)} ways; write {read}")
    if own:
        return make_pair(*map(str, own[0]))
    return declared.get(name, "or name two data sets with --in-dist and --ood")


def make_pair(in_dist: str, ood: str) -> Pair:
    """The pair of two data sets, the registered one where there is one."""
    names = parse_name(in_dist), parse_name(ood)
    shape = _registered_shape(names[0])
    own = _built_in_sets(sources())
    for pair in registered_pairs().values():
        held = own.get(pair.name) or (parse_name(pair.in_dist), parse_name(pair.ood))
        if same_set(held[0], names[0], None) and same_set(held[1], names[1], shape):
            return pair
    return plain_pair(*map(str, names))


@cache
def _built_in_sets(_: tuple[Source, ...]) -> dict[str, tuple[DatasetName, DatasetName]]:
    """The sets of oodbench's own pairs, which are no paths."""
    found, own = registered_pairs(), built_in_pairs()
    return {
        name: (parse_name(pair.in_dist), parse_name(pair.ood))
        for name, pair in found.items() if name in own
    }  # fmt: skip


def plain_pair(in_dist: str, ood: str) -> Pair:
    """The pair of two sets under their short names; looks nothing up."""
    return Pair(f"{_short(in_dist)}-{_short(ood)}", in_dist, ood)


def _registered_shape(name: DatasetName) -> tuple[int, int, int]:
    """The shape (C, H, W) of a registered set in its default size; zeros for any other set."""
    sized = any(step_name(step) in SIZING and step not in SIZING for step in name.variants)
    return (0, 0, 0) if name.is_path or name.generated or sized else get_spec(name.base).shape


def distinct_names(name: str, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A name for each of several (ID, OOD) sets whose pairs all have `name`; one keeps it.

    Paths are shown with as many of their last parts as tell them apart, on the side where they
    differ.
    """
    if len(pairs) < 2:
        return dict.fromkeys(pairs, name)
    most = max((len(Path(text).parts) for pair in pairs for text in pair), default=1)
    for parts in range(2, most + 1):
        sides = [
            {text: _short(text, parts if len({pair[side] for pair in pairs}) > 1 else 1)
             for text in {pair[side] for pair in pairs}}
            for side in (0, 1)
        ]  # fmt: skip
        labels = {pair: f"{sides[0][pair[0]]}-{sides[1][pair[1]]}" for pair in pairs}
        if len({*labels.values()}) == len(pairs):
            return labels
    return {pair: f"{pair[0]}--{pair[1]}" for pair in pairs}


def named_apart(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs, each once; where several would bear one name, under names that differ."""
    found = list(dict.fromkeys(pairs))
    sets: dict[str, dict[tuple[str, str], None]] = {}
    for pair in found:
        sets.setdefault(pair.name, {})[(pair.in_dist, pair.ood)] = None
    names = {name: distinct_names(name, list(same)) for name, same in sets.items()}
    return [replace(p, name=names[p.name][(p.in_dist, p.ood)]) for p in found]


def _short(text: str, parts: int = 1) -> str:
    """A data set's name; of a path its last parts without the file's ending, with the steps."""
    try:
        name = parse_name(text)
    except OodbenchError:  # of a plug-in or project that is not here
        return text
    if not name.is_path:
        return text
    path = Path(name.base)
    above = path.parent.parts[len(path.parent.parts) - (parts - 1) :] if parts > 1 else ()
    return str(Path(*above, path.stem)) + text.removeprefix(name.base)
