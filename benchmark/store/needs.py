"""What in a store must stay: what runs rest on, and what records that cannot be read may rest on.

What an entry rests on is read off its key.  Where a key cannot be read (a damaged record, one of
another version, another user's file) or an entry that another one names is gone, everything that
may stand behind it stays.  Nothing is written, renamed or set aside here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from oodbench.canonical_json import JSON
from oodbench.store.ownership import RECORD, STAGES, is_own_name
from oodbench.store.plain_files import read_plain
from oodbench.store.records.named_entries import digests_in, named_in
from oodbench.store.store import Entry, Fault, Store, Unsound, entry_path, read_record

#: The stages whose entries an entry may rest on.
BEHIND = {
    "run": ("score", "measure", "fit"),
    "score": ("measure", "fit"),
    "measure": ("fit",),
    "fit": (),
    "diagnosis": (),  # it is kept for its fit, not the fit for it
}


@dataclass
class Holdings:
    """Everything that lies in a store under names of its own, links followed, by path.

    `aside`: the parts that the record of a set-aside entry held, None where they are not readable.
    """

    sound: dict[str, Entry] = field(default_factory=dict)
    unsound: dict[str, Unsound] = field(default_factory=dict)
    aside: dict[str, JSON | None] = field(default_factory=dict)

    def unreadable(self) -> Iterator[str]:
        """Paths of entries whose key is not known, and which no sound entry has replaced."""
        yield from (p for p, what in self.unsound.items() if what.fault is not Fault.ABSENT)
        yield from (p for p, parts in self.aside.items() if parts is None and not self.again(p))

    def again(self, aside: str) -> bool:
        """Whether what was set aside has been made again."""
        return aside.partition(".")[0] in self.sound

    def under(self, path: str) -> list[tuple[str, JSON]]:
        """An entry and its parts, or those set aside under its key as long as it is not there."""
        if path in self.sound:
            return [(path, dict(self.sound[path].parts))]
        parts = [(p, self.aside[p]) for p in self._set_aside.get(path, ())]
        return [(p, known) for p, known in parts if known is not None]

    @cached_property
    def _set_aside(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.aside:
            found.setdefault(path.partition(".")[0], []).append(path)
        return found


def holdings(store: Store, root: Path) -> Holdings:
    """Read every record of a store; changes nothing."""
    found = Holdings()
    for stage in STAGES:
        for prefix in _folders(root / stage):
            for name in _folders(root / stage / prefix):
                path = f"{stage}/{prefix}/{name}"
                if not is_own_name(path):
                    continue
                if "." in name:
                    found.aside[path] = _parts(root / path / RECORD)
                    continue
                entry = store.inspect(path)
                if isinstance(entry, Entry):
                    found.sound[path] = entry
                else:
                    found.unsound[path] = entry
    return found


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []


def _parts(record: Path) -> JSON | None:
    try:
        held = read_record(read_plain(record))
    except OSError:
        return None
    return None if held is None else held.get("parts")


@dataclass
class Needs:
    """Paths that must stay, and why some stay that no readable run names."""

    kept: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)


def needs(held: Holdings) -> Needs:
    """What must stay: runs and what they rest on, and what no one can rule out."""
    found = Needs()
    whole_stages: set[str] = set()
    for path in held.unreadable():
        if path in held.unsound or BEHIND[_stage(path)]:
            found.kept.add(path)
        if BEHIND[_stage(path)]:
            whole_stages.update(BEHIND[_stage(path)])
            unsound = held.unsound.get(path)
            why = unsound.reason if unsound else "its record cannot be read"
            found.reasons.append(f"{path}: {why}; all it may rest on is kept")
    waiting: list[tuple[str, JSON]] = [
        (path, dict(entry.parts)) for path, entry in held.sound.items() if entry.stage == "run"
    ]
    waiting += [
        (path, parts) for path, parts in held.aside.items()
        if parts is not None and _stage(path) == "run" and not held.again(path)
    ]  # fmt: skip
    met: set[tuple[str, bool]] = set()
    while waiting:
        path, parts = waiting.pop()
        found.kept.add(path)
        for behind, named in _behind(_stage(path), parts):
            if (behind, named) in met:
                continue
            met.add((behind, named))
            there = [one for one in held.under(behind) if one[0] not in found.kept]
            waiting += there
            if named and not held.under(behind):
                found.kept.add(behind)
                if BEHIND[_stage(behind)]:
                    whole_stages.update(BEHIND[_stage(behind)])
                    found.reasons.append(
                        f"{path} rests on {behind}, which is not here; all it may rest on is kept"
                    )
    everything = {*held.sound, *held.unsound, *held.aside}
    found.kept |= {path for path in everything if _stage(path) in whole_stages}
    for path, entry in held.sound.items():
        if entry.stage == "diagnosis":
            fit = entry_path("fit", str(entry.parts.get("fit")))
            if fit in found.kept:
                found.kept.add(path)
    return found


def _stage(path: str) -> str:
    return path.partition("/")[0]


def _behind(stage: str, parts: JSON) -> Iterator[tuple[str, bool]]:
    """Paths that the parts of a key name: those that must be entries, then all that may be."""
    if isinstance(parts, dict):
        for other, digest in named_in(stage, parts):
            yield entry_path(other, digest), True
    for digest in digests_in(parts):
        for other in STAGES:
            yield entry_path(other, digest), False
