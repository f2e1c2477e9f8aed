"""Stored runs under the names that are asked for: found by their images, never by a spelling.

A run is keyed by the images of its pair, so a folder that is written in another way, moved, or
declared as a pair of a project has the run of its images; its record carries the names it was made
under.  Here runs get the names of the pair that is asked for, and pairs that would bear one name
(two folders ``parts``) get as much of their paths as tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, cast

from oodbench.datasets.pairs import Pair, distinct_names, get_pair
from oodbench.datasets.paths.outside_paths import OutsidePathError
from oodbench.declare.wildcards import any_wild, expanded
from oodbench.errors import OodbenchError
from oodbench.store.store import Entry, Store

if TYPE_CHECKING:
    from oodbench.canonical_json import JSON
    from oodbench.datasets.loading import DataPlaces

#: Fingerprints of the ID and of the OOD test images.
Images: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class StoredRuns:
    """Every run of a store, and the names that the pairs asked for bear in it."""

    runs: list[Entry]
    pairs: tuple[str, ...] = ()


def stored_runs(
    store: Store, pairs: Sequence[str | Pair] = (), places: DataPlaces | None = None,
    unsearched: Container[str] = (),
) -> StoredRuns:  # fmt: skip
    """All runs, those on the images of `pairs` under the names of these.

    A pair that no run is named after is looked for by its images, where `places` hold them, unless
    it is one of `unsearched`.  One that is given whole is found by its sets alone, not by its name.
    """
    known = _Images(store)
    original = list(store.entries("run"))
    runs = _distinct(original, known)
    texts = [pair for pair in pairs if isinstance(pair, str)]
    if any_wild(texts):
        ran = dict.fromkeys(str(run.record["pair"]) for run in runs)
        named = expanded("pair that ran", texts, sorted(ran))
        pairs = [*(pair for pair in pairs if not isinstance(pair, str)), *named]
    names: dict[str, None] = {}
    asked: dict[Images, dict[Pair, None]] = {}
    for wanted in dict.fromkeys(pairs):
        if isinstance(wanted, Pair):
            found = _asked_images(wanted, places) or _of_sets(wanted, original, known)
            names[wanted.name] = None
        else:
            own = [
                run for run, first in zip(runs, original, strict=True)
                if wanted in (run.record["pair"], first.record["pair"])
            ]  # fmt: skip
            names |= dict.fromkeys([str(run.record["pair"]) for run in own] or [wanted])
            found = {images: _pair_of(run) for run in own if (images := known.of(run))}
            if not own and wanted not in unsearched:
                found = _asked_images(wanted, places)
        for images, pair in found.items():
            asked.setdefault(images, {})[pair] = None
    out = []
    for run in runs:
        images = known.of(run) if asked else None
        others = [shown_as(run, pair) for pair in asked.get(images, ())] if images else []
        out += [run] if not others or str(run.record["pair"]) in names else []
        out += [other for other in others if other.record["pair"] != run.record["pair"]]
    return StoredRuns(out, tuple(names))


def shown_as(run: Entry, pair: Pair) -> Entry:
    """A run with the names of a pair of the same images, in its notes too."""
    record = run.record
    old, new = (str(record["in_dist"]), str(record["ood"])), (pair.in_dist, pair.ood)
    if (str(record["pair"]), *old) == (pair.name, *new):
        return run
    changes: dict[str, JSON] = {"pair": pair.name, "in_dist": new[0], "ood": new[1]}
    for field in ("notes", "duplicates"):
        texts = cast("list[str]", record.get(field, []))
        changes[field] = [_renamed(text, dict(zip(old, new, strict=True))) for text in texts]
    return replace(run, record={**record, **changes})


def _renamed(note: str, names: Mapping[str, str]) -> str:
    """A note that begins with the name of a set, or speaks of its images, under other names."""
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = rf"^(?P<head>{known})(?=: )|(?<=images of )(?P<body>{known})(?= |$)"
    return re.sub(pattern, lambda match: names[match[0]], note)


class _Images:
    """The fingerprints of the images behind runs, each entry read once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._sides: dict[str, str | None] = {}

    def of(self, run: Entry) -> Images | None:
        """None where the scores or measurements are not there (only the records were imported)."""
        sides = [self._side(str(run.parts.get(name))) for name in ("id_scores", "ood_scores")]
        return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])

    def _side(self, digest: str) -> str | None:
        if digest not in self._sides:
            score = self.store.get("score", digest)
            measure = score and self.store.get("measure", str(score.parts.get("measure")))
            self._sides[digest] = str(measure.parts["images"]) if measure else None
        return self._sides[digest]


def _of_sets(pair: Pair, runs: Iterable[Entry], known: _Images) -> dict[Images, Pair]:
    """The images of the runs on two sets as they were named, for sets that are gone by now."""
    sets = pair.in_dist, pair.ood
    own = [run for run in runs if (run.record["in_dist"], run.record["ood"]) == sets]
    return {images: pair for run in own if (images := known.of(run))}


def _asked_images(asked: str | Pair, places: DataPlaces | None) -> dict[Images, Pair]:
    """The images of a pair, where they are found; nothing where they are not."""
    from oodbench.datasets.loading import load

    if places is None:
        return {}
    try:
        pair = asked if isinstance(asked, Pair) else get_pair(asked)
        inside = load(pair.in_dist, "test", places, divide=True)
        if pair.in_dist == pair.ood:
            return {(inside.fingerprint, inside.fingerprint): pair}
        ood = load(pair.ood, "test", places, like=inside.shape, count=len(inside))
        return {(inside.fingerprint, ood.fingerprint): pair}
    except OutsidePathError:
        raise
    except OodbenchError:
        return {}


def _pair_of(run: Entry) -> Pair:
    record = run.record
    return Pair(str(record["pair"]), str(record["in_dist"]), str(record["ood"]))


def _distinct(runs: Iterable[Entry], known: _Images) -> list[Entry]:
    """Runs whose pairs have one name only where they have one pair of sets."""
    found = list(runs)
    sets: dict[str, dict[tuple[str, str], Entry]] = {}
    for run in found:
        record = run.record
        names = str(record["in_dist"]), str(record["ood"])
        sets.setdefault(str(record["pair"]), {}).setdefault(names, run)
    shown: dict[tuple[str, str, str], Pair] = {}
    for name, pairs in sets.items():
        if len(pairs) < 2:
            continue
        first: dict[Images, tuple[str, str]] = {}
        for names, run in pairs.items():
            first.setdefault(known.of(run) or names, names)
        labels = distinct_names(name, list(first.values()))
        for names, run in pairs.items():
            own = first[known.of(run) or names]
            shown[(name, *names)] = Pair(labels[own], *own)
    return [_as_distinct(run, shown) for run in found]


def _as_distinct(run: Entry, shown: Mapping[tuple[str, str, str], Pair]) -> Entry:
    record = run.record
    pair = shown.get((str(record["pair"]), str(record["in_dist"]), str(record["ood"])))
    return run if pair is None else shown_as(run, pair)
