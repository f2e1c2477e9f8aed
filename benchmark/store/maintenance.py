"""Looking after a store: verify every file of it, and know what an entry rests on.

What an entry needs is read off its key: every digest in its parts that names another entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from oodbench.canonical_json import JSON
from oodbench.errors import StoreError
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
    return verdict


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


def digests_in(value: JSON) -> Iterator[str]:
    """Every digest in the parts of a key: of entries, and of images."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from digests_in(item)
    elif isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        yield value


def check_exists(store: Store) -> None:
    """StoreError where a store on this machine has no folder."""
    if isinstance(store.storage, LocalStorage) and not store.storage.root.is_dir():
        raise StoreError(f"there is no store at {store.storage.root}; give its folder with --store")
