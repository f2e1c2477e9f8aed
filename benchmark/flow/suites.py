"""Suites: named sets of pairs and detectors in YAML, one table each.

A suite lists its pairs and detectors, or names a published table's `layout`: then they are those
that the table's rows ask for, as far as such detectors are registered.  A pair is a name, or a
mapping of two sets, folders of one's own among them.  `first` names detectors to start with: of
several processes on one store, none then waits for another's longest fit at the end.  `columns`
are what its table has beside the metrics, by the names of ``leaderboard --columns``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import cast

from oodbench.datasets.pairs import Pair, get_pair, make_pair, named_apart, plain_pair
from oodbench.datasets.paths.outside_paths import note_suite_pair
from oodbench.declare.declarations import Declarations, Source, checked_entry, sources
from oodbench.declare.yaml_files import read_yaml
from oodbench.errors import ConfigError, listed, nearest

KEYS = {"name", "title", "pairs", "detectors", "layout", "scale", "first", "columns"}


@dataclass(frozen=True)
class Part:
    """Detectors (``name[@recipe]``) that run on these pairs."""

    pairs: tuple[str, ...]
    detectors: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """Its parts; `scale` is the one it is sized for, `layout` how its table is printed.

    `first`: detectors of the parts that are started before the others, in this order.  `own`: the
    pairs that the suite itself declares, by name.  `columns`: of its table in the general layout.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    scale: str
    layout: str = ""
    first: tuple[str, ...] = ()
    own: Mapping[str, Pair] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def pair(self, name: str) -> Pair:
        """One of its pairs, under the name that it has in the suite.

        Paths are those of the working folder, as on the command line.  OodbenchError where it names
        a set that does not exist.
        """
        if name in self.own:
            own = self.own[name]
            made = make_pair(own.in_dist, own.ood)
            return replace(made, name=name, reading=own.reading or made.reading)
        return get_pair(name)

    @property
    def pairs(self) -> tuple[str, ...]:
        """Every pair once."""
        return tuple(dict.fromkeys(pair for part in self.parts for pair in part.pairs))

    @property
    def detectors(self) -> tuple[str, ...]:
        """Every detector once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.detectors))


def suites() -> dict[str, Suite]:
    """The suites of oodbench, of plug-ins and of the project, by name."""
    found = suite_declarations().all()
    return {name: found[name] for name in suite_names() if name in found}


def suite_declarations() -> Declarations[Suite]:
    """Every ``suites/NAME.yaml``."""
    return _declarations(sources())


@cache
def _declarations(_: tuple[Source, ...]) -> Declarations[Suite]:
    return Declarations[Suite]("suite").add_files("suites", read_suite)


def suite_names() -> list[str]:
    """Names of the suites, table1 … last; reads no file."""

    def order(name: str) -> tuple[int, str]:
        return (int("".join(char for char in name if char.isdigit()) or 0), name)

    return sorted(suite_declarations().names(), key=order)


def find_suite(name: str) -> Suite:
    """A suite by name, or a path to a YAML file."""
    if name.endswith((".yaml", ".yml")):
        return read_suite(Path(name))
    return suite_declarations().get(name)


def read_suite(path: Path) -> Suite:
    """Parse a suite file; ConfigError names the file and the key."""
    raw = read_yaml(path)
    for key in raw:
        if key not in KEYS:
            raise ConfigError(f"{path.name}: unknown key {key!r}; one of {', '.join(sorted(KEYS))}")
    layout = raw.get("layout", "")
    if not isinstance(layout, str):
        raise ConfigError(f"{path.name}: 'layout' must be the name of a layout, not {layout!r}")
    if layout and ("pairs" in raw or "detectors" in raw):
        raise ConfigError(f"{path.name}: 'layout' says which pairs and detectors run; leave out"
                          " 'pairs' and 'detectors'")  # fmt: skip
    given = raw.get("pairs")
    for pair in given if isinstance(given, list) else ():
        if isinstance(pair, str | Mapping):
            note_suite_pair(path, pair)
    own = {} if layout else _own_pairs(raw, path.name)
    parts = parts_of_layout(layout) if layout else (_listed(raw, path.name, own),)
    first, columns = (_names(raw, key, path.name) for key in ("first", "columns"))
    known = {name.partition(":")[0] for part in parts for name in part.detectors}
    for name in first:
        if name not in known:
            close = listed(nearest(name, known), 3)
            raise ConfigError(f"{path.name}: 'first' names {name!r}, which is no detector of the"
                              f" suite; nearest: {close}")  # fmt: skip
    return Suite(
        name=str(raw.get("name", path.stem)),
        title=str(raw.get("title", "")),
        parts=parts,
        scale=str(raw.get("scale", "small")),
        layout=layout,
        first=tuple(first),
        own={pair.name: pair for pair in own.values()},
        columns=tuple(columns),
    )


def _names(raw: Mapping[str, object], key: str, where: str) -> list[str]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{where}: {key!r} must be a list of names")
    return value


def _own_pairs(raw: Mapping[str, object], where: str) -> dict[int, Pair]:
    """The pairs that stand there as ``{in_dist: …, ood: …}``, by their place in the list."""
    given = raw.get("pairs")
    listed: list[object] = given if isinstance(given, list) else []
    found = {}
    for place, entry in enumerate(listed):
        if isinstance(entry, Mapping):
            texts = {"in_dist": str, "ood": str}
            body = cast("Mapping[str, str]", checked_entry(
                entry, f"{where}: pair {place + 1}", texts, {"name": str, "reading": str}
            ))  # fmt: skip
            pair = plain_pair(body["in_dist"], body["ood"])
            found[place] = replace(
                pair, name=body.get("name", pair.name), reading=body.get("reading", "")
            )
    apart = named_apart(found.values())
    names = [pair.name for pair in apart]
    names += [entry for entry in listed if isinstance(entry, str)] if found else []
    if len(apart) < len(found) or len({*names}) < len(names):
        raise ConfigError(f"{where}: two of its pairs have one name; give one of them another,"
                          " {in_dist: …, ood: …, name: …}")  # fmt: skip
    return dict(zip(found, apart, strict=True))


def _listed(raw: Mapping[str, object], where: str, own: Mapping[int, Pair]) -> Part:
    listed = {}
    for key, also in (("pairs", " or mappings of in_dist and ood"), ("detectors", "")):
        value = raw.get(key)
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{where}: {key!r} must be a list of names{also}")
        named = [own[i].name if also and i in own else v for i, v in enumerate(value)]
        if not all(isinstance(v, str) for v in named):
            raise ConfigError(f"{where}: {key!r} must be a list of names{also}")
        listed[key] = tuple(named)
    return Part(listed["pairs"], listed["detectors"])


def parts_of_layout(name: str) -> tuple[Part, ...]:
    """What has to run for a published table: its detectors pair by pair, if they are registered.

    Pairs with the same detectors form one part.
    """
    from oodbench.declare.layout_files import find_layout
    from oodbench.detect.detector import DETECTORS

    known = set(DETECTORS.names())
    wanted: dict[str, dict[str, None]] = {}
    for query in find_layout(name).queries():
        if query["detector"] in known:
            recipe = f"@{query['recipe']}" if "recipe" in query else ""
            wanted.setdefault(str(query["pair"]), {})[f"{query['detector']}{recipe}"] = None
    parts: dict[tuple[str, ...], list[str]] = {}
    for pair, detectors in wanted.items():
        parts.setdefault(tuple(detectors), []).append(pair)
    return tuple(Part(tuple(pairs), detectors) for detectors, pairs in parts.items())
