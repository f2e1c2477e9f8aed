"""Looking after a store: verify every file of it, and know what an entry rests on.

What an entry needs is read off its key: every digest in its parts that names another entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from oodbench.errors import StoreError
from oodbench.store.records.named_entries import digests_in, named_in
from oodbench.store.records.shapes import misfit
from oodbench.store.storage import LocalStorage, UnreadableFileError, iterate_prefixes
from oodbench.store.store import STAGES, DamagedEntryError, Entry, Fault, Store, Unsound, entry_path


@dataclass
class Verdict:
    """What `verify` found: entries per stage, paths of damaged ones, notes, the sound ones."""

    entries: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sound: list[Entry] = field(default_factory=list)


def verify(store: Store) -> Verdict:
    """Read every record and every file against its checksum; what fails is set aside."""
    check_exists(store)
    verdict = Verdict()
    for stage in STAGES:
        verdict.entries[stage] = 0
        for path, _ in iterate_prefixes(store.storage, stage):
            entry = store.inspect(path)
            if isinstance(entry, Unsound):
                if entry.fault is Fault.DAMAGED:
                    store.set_aside(entry.path, entry.reason)
                    verdict.damaged.append(path)
                elif entry.fault is not Fault.ABSENT:
                    verdict.notes.append(f"{path}: not verified, {entry.reason}")
                continue
            wrong = misfit(entry.record, imported=bool(entry.imported))
            if wrong:
                verdict.notes.append(f"{path}: passed over, its record does not fit ({wrong})")
                continue
            try:
                verdict.bytes += sum(len(entry.read(file)) for file in entry.files)
            except DamagedEntryError:
                verdict.damaged.append(path)
                continue
            except UnreadableFileError as error:
                verdict.notes.append(f"{path}: not verified, {error}")
                continue
            verdict.entries[stage] += 1
            verdict.sound.append(entry)
    verdict.notes += _lacking(verdict)
    return verdict


def _lacking(verdict: Verdict) -> list[str]:
    """A line where sound entries rest on such as are not in the store at all."""
    there = {entry.path for entry in verdict.sound} | set(verdict.damaged)
    lacking: dict[str, set[str]] = {}
    for entry in verdict.sound:
        for stage, digest in () if entry.imported else named_in(entry.stage, entry.parts):
            if entry_path(stage, digest) not in there:
                lacking.setdefault(stage, set()).add(digest)
    if not lacking:
        return []
    counts = ", ".join(f"{stage} {len(lacking[stage])}" for stage in STAGES if stage in lacking)
    return [
        f"entries that others rest on are not here ({counts}); the `oodbench run` that made them"
        " makes them again"
    ]


def needed(store: Store, roots: Iterable[Entry]) -> dict[str, Entry]:
    """The roots and everything they were made from, by path."""
    found: dict[str, Entry] = {}
    waiting = list(roots)
    while waiting:
        entry = waiting.pop()
        if entry.path in found:
            continue
        found[entry.path] = entry
        for digest in digests_in(dict(entry.parts)):
            behind = (store.get(stage, digest) for stage in STAGES)
            waiting += [other for other in behind if other is not None]
    return found


def with_diagnoses(store: Store, kept: dict[str, Entry]) -> dict[str, Entry]:
    """`kept`, by path, and the diagnoses of the fits in it."""
    found = dict(kept)
    for entry in store.entries("diagnosis"):
        if entry_path("fit", str(entry.parts["fit"])) in kept:
            found[entry.path] = entry
    return found


def check_exists(store: Store) -> None:
    """StoreError where a store on this machine has no folder."""
    if isinstance(store.storage, LocalStorage) and not store.storage.root.is_dir():
        raise StoreError(f"there is no store at {store.storage.root}; give its folder with --store")
