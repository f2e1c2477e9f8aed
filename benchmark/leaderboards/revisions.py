"""Which runs of one name answer for it: those of the newest revisions that are known here."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from oodbench.canonical_json import JSON
from oodbench.errors import PluginError

if TYPE_CHECKING:
    from oodbench.store.store import Entry

Names = tuple[JSON, ...]
log = logging.getLogger("oodbench.leaderboards")


def names_of(record: Mapping[str, JSON]) -> Names:
    """What runs bear that differ in seed or settings alone."""
    names = ("pair", "in_dist", "ood", "detector", "recipe", "scale", "variant")
    return tuple(record[name] for name in names)


def newest_revisions(entries: Iterable[Entry]) -> tuple[list[Entry], Counter[Names]]:
    """The runs that no newer revision answers for, and how many of each names are left out.

    A run by a revision that is not registered here (detector, model, metrics, random numbers) is
    passed over: this code cannot know what it is.  What was imported never pushes out one's own.
    """
    ranked: list[tuple[Entry, Names, tuple[int, ...]]] = []
    newest: dict[tuple[Names, bool], tuple[int, ...]] = {}
    larger: set[Names] = set()
    unknown: dict[str, int] = {}
    here = _Registered()
    for entry in entries:
        strange = _not_registered(entry, here)
        if strange:
            unknown[strange] = unknown.get(strange, 0) + 1
            continue
        same = (*names_of(entry.record), entry.record["seed"])
        ranked.append((entry, same, _revisions(entry)))
        for imported in {True, bool(entry.imported)}:
            newest[same, imported] = max(ranked[-1][-1], newest.get((same, imported), ()))
        if _compares_with_more(entry) and not entry.imported:
            larger.add(same)
    for strange, count in unknown.items():
        log.warning("%d run%s passed over: %s", count, "" if count == 1 else "s", strange)
    older: Counter[Names] = Counter()
    kept = []
    for entry, same, revisions in ranked:
        # Before a run's record had its reference, that was no larger than the ID test set.
        capped = same in larger and "reference" not in entry.record
        if capped or revisions < newest[same, bool(entry.imported)]:
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


def _not_registered(entry: Entry, registered: _Registered) -> str:
    """What of a run is of a later revision than the one here, in words; "" where nothing is."""
    from oodbench.flow.keys import METRICS_REVISION
    from oodbench.seeding import NOISE_REVISION

    detector, model, metrics, _, noise = _revisions(entry)
    source = cast("Mapping[str, Mapping[str, JSON]]", entry.record.get("source") or {})
    model_name = source.get("model", {}).get("name", "")
    for what, revision, here in (
        (f"detector {entry.record['detector']!r}", detector,
         registered["detector", str(entry.record["detector"])]),
        (f"model {model_name!r}", model, registered["model", str(model_name)]),
        ("the metrics", metrics, METRICS_REVISION),
        ("the random numbers", noise, NOISE_REVISION),
    ):  # fmt: skip
        if here is not None and revision > here:
            return f"{what} at revision {revision}, which is not known here (it is {here})"
    return ""


class _Registered(dict[tuple[str, str], "int | None"]):
    """Revisions by kind and name, each looked up once."""

    def __missing__(self, key: tuple[str, str]) -> int | None:
        return self.setdefault(key, _registered(*key))


def _registered(kind: str, name: str) -> int | None:
    """The revision of a detector or model that is registered here; None where there is none."""
    from oodbench.declare.recipes import MODELS
    from oodbench.detect.detector import DETECTORS

    registry = DETECTORS if kind == "detector" else MODELS
    if name not in registry.names():
        return None
    try:
        return int(getattr(registry.get(name), "revision", 1))
    except PluginError:
        return None
