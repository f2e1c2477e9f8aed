"""Means over OOD sets: all that ran beside an ID set, those near to it, those far from it.

A row stands for detectors that ran on every set of the mean.  The mean is taken for every training
seed, then over seeds; one seed has no interval, for the sets share the ID images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import cast

from oodbench.canonical_json import JSON
from oodbench.datasets.spec import parse_name
from oodbench.declare.layouts import METRICS
from oodbench.errors import ConfigError, OodbenchError
from oodbench.leaderboards.rounding import percent
from oodbench.leaderboards.rows import Cell, Group, Row, make_rows, mean_and_sd

#: Near sets of OpenOOD v1.5; every other set is far.
NEAR = {
    "cifar10": ("cifar100", "tiny-imagenet", "tiny-imagenet-openood"),
    "cifar100": ("cifar10", "tiny-imagenet"),
}
#: The sets of OpenOOD v1.5 as pairs have them, at the size of the ID images.
OPENOOD = {
    "cifar10": {
        "near": ("cifar100", "tiny-imagenet-openood"),
        "far": ("mnist-openood@rgb@resize", "svhn", "textures-openood", "places365-openood"),
    }
}
NAMES = ("all", "near", "far")


def parse_means(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """``all``, ``near``, ``far``, or ``NAME=SET,SET…`` (wildcards allowed); ConfigError on others.

    ``near`` and ``far`` alone are those of OpenOOD.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, sets = text.partition("=")
        listed = tuple(part.strip() for part in sets.split(",") if part.strip())
        if (equals and not (name.strip() and listed)) or (not equals and name not in NAMES):
            raise ConfigError(
                f"--mean {text}: write all, near or far, or NAME=SET,SET as in near=cifar100"
            )
        found[name.strip()] = listed
    return found


def mean_rows(
    groups: Sequence[Group], means: Mapping[str, Sequence[str]], scores: Mapping[int, list[str]]
) -> list[Row]:
    """A row per detector and score for every mean and ID set; `scores` by the id of a group.

    ConfigError where no set is named so, or nothing is known to be near.
    """
    by_id: dict[str, list[Group]] = {}
    for group in groups:
        by_id.setdefault(str(group.first["in_dist"]), []).append(group)
    rows: list[Row] = []
    for name, wanted in means.items():
        found = [
            row for in_dist, own in by_id.items() for row in _of(in_dist, own, name, wanted, scores)
        ]
        if not found:
            raise ConfigError(_nothing(name, wanted, by_id))
        rows += found
    return rows


def openood_mean(groups: Sequence[Group], score: str, metric: str) -> Cell | None:
    """Mean of a metric, percent, over one detector's runs on several sets; None without a seed."""
    rows = _rows(groups, "", [score])
    return rows[0].cells[metric] if rows else None


def _nothing(name: str, wanted: Sequence[str], by_id: Mapping[str, Sequence[Group]]) -> str:
    held = ", ".join(dict.fromkeys(str(g.first["ood"]) for own in by_id.values() for g in own))
    if wanted or name == "all":
        return f"--mean {name}: no detector ran on all of its sets; OOD sets that ran: {held}"
    known = ", ".join(NEAR)
    return (
        f"--mean {name}: which sets are near is known for {known}; name them, as in"
        f" near=SET,SET (OOD sets that ran: {held})"
    )


def _of(
    in_dist: str, groups: Sequence[Group], name: str, wanted: Sequence[str],
    scores: Mapping[int, list[str]],
) -> list[Row]:  # fmt: skip
    oods = list(dict.fromkeys(str(g.first["ood"]) for g in groups))
    chosen = [ood for ood in oods if _belongs(ood, in_dist, name, wanted)]
    if not chosen:
        return []
    same: dict[tuple[object, ...], dict[str, Group]] = {}
    for group in groups:
        first = group.first
        key = (group.title, first["detector"], first["recipe"], first["scale"], first["variant"])
        if first["ood"] in chosen:
            same.setdefault(key, {})[str(first["ood"])] = group
    pair = f"{_base(in_dist)}: mean of {name} ({', '.join(map(_base, chosen))})"
    rows, left_out = [], []
    for (title, *_), by_ood in same.items():
        found = []
        if set(by_ood) == set(chosen):
            found = _rows([by_ood[o] for o in chosen], pair, scores[id(by_ood[chosen[0]])])
        rows += found
        left_out += [] if found else [str(title)]
    if not left_out:
        return rows
    note = (
        f"not in the mean of {name}, having run on fewer of its sets or on other seeds for each:"
        f" {', '.join(dict.fromkeys(left_out))}"
    )
    return [replace(row, notes=(*row.notes, note)) for row in rows]


def _belongs(ood: str, in_dist: str, name: str, wanted: Sequence[str]) -> bool:
    if wanted:
        return any(fnmatchcase(ood, one) or fnmatchcase(_base(ood), one) for one in wanted)
    if name == "all":
        return True
    near = NEAR.get(_base(in_dist))
    return near is not None and (_base(ood) in near) == (name == "near")


def _base(name: str) -> str:
    """A set without its steps."""
    try:
        return parse_name(name).base
    except OodbenchError:
        return name


def _rows(groups: Sequence[Group], pair: str, names: Sequence[str]) -> list[Row]:
    records = [{int(cast(int, e.record["seed"])): e.record for e in g.entries} for g in groups]
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in records)))
    if not seeds:
        return []
    out = []
    made = [{row.score or "score": row for row in make_rows(group)} for group in groups]
    for name in names:
        if not all(name in rows for rows in made):
            continue
        parts = [rows[name] for rows in made]
        cells = {
            metric: _cell([
                [percent(metric, _result(by_seed[seed], name)) for by_seed in records]
                for seed in seeds
            ])
            for metric in METRICS
        }  # fmt: skip
        out.append(Row(
            pair=pair, detector=parts[0].detector, score=parts[0].score, recipe=parts[0].recipe,
            category=parts[0].category, tag=parts[0].tag, seeds=tuple(seeds),
            n=min(part.n for part in parts), cells=cells,
            distinct=min(part.distinct for part in parts),
            runs=tuple(run for part in parts for run in part.runs),
            train_seconds=parts[0].train_seconds, ms_per_image=parts[0].ms_per_image,
            notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
            members=parts[0].members, constant=any(part.constant for part in parts),
            name=parts[0].name, scale=parts[0].scale,
        ))  # fmt: skip
    return out


def _result(record: Mapping[str, JSON], score: str) -> Mapping[str, JSON]:
    return cast("Mapping[str, Mapping[str, JSON]]", record["scores"])[score]


def _cell(by_seed: Sequence[Sequence[float]]) -> Cell:
    """Of the values of every set, seed by seed."""
    values = [sum(one) / len(one) for one in by_seed]
    if len(values) == 1:
        return Cell(values[0], None, None, None, 1)
    return Cell(*mean_and_sd(values)[:1], None, None, mean_and_sd(values)[1], len(values))
