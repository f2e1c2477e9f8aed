"""Looking after a store: verify every file of it, and remove what no run needs.

What an entry needs is read off its key: every digest in its parts that names another entry.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from oodbench.canonical import JSON
from oodbench.errors import StoreError
from oodbench.sourcecode import changed_sources
from oodbench.storage import TEMPORARY, LocalStorage, disk_error, iterate_prefixes
from oodbench.store import RECORD, STAGES, DamagedEntryError, Entry, Store, entry_path

DAY = 86_400.0
DAMAGED = ".damaged-"


@dataclass
class Verdict:
    """What `verify` found: entries per stage, paths of damaged ones, notes on changed sources."""

    entries: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(store: Store) -> Verdict:
    """Read every record and every file against its checksum; what fails is set aside."""
    _check_exists(store)
    verdict = Verdict()
    sound: list[Entry] = []
    for stage in STAGES:
        verdict.entries[stage] = 0
        for path, name in iterate_prefixes(store.storage, stage):
            entry = store.get(stage, name)
            if entry is None:
                if not _unfinished(store, path):
                    verdict.damaged.append(path)
                continue
            try:
                verdict.bytes += sum(len(entry.read(file)) for file in entry.files)
            except DamagedEntryError:
                verdict.damaged.append(path)
                continue
            verdict.entries[stage] += 1
            sound.append(entry)
    verdict.notes = changed_sources(sound)
    return verdict


def _unfinished(store: Store, path: str) -> bool:
    """Whether a folder is that of an entry whose record was never written."""
    if not isinstance(store.storage, LocalStorage):
        return store.storage.read(f"{path}/{RECORD}") is None
    folder = store.storage.root / path
    return folder.is_dir() and not (folder / RECORD).exists()


def needed(store: Store, roots: Iterable[Entry]) -> dict[str, Entry]:
    """The roots and everything they were made from, by path."""
    found: dict[str, Entry] = {}
    waiting = list(roots)
    while waiting:
        entry = waiting.pop()
        if entry.path in found:
            continue
        found[entry.path] = entry
        for digest in _digests(dict(entry.parts)):
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


def _digests(value: JSON) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _digests(item)
    elif isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        yield value


@dataclass(frozen=True)
class Waste:
    """Something that may go: a path, why, how large, and the key whose lock guards it."""

    path: Path
    reason: str
    bytes: int
    digest: str = ""


def collect(store: Store, keep_days: float) -> list[Waste]:
    """What no run needs and is older than `keep_days`, with everything that kills left behind.

    Entries that belong to no run (their run is not finished, or was asked for with other
    settings), scratch, damaged and half-written files.
    """
    _check_exists(store)
    if not isinstance(store.storage, LocalStorage):
        raise StoreError(f"{store.storage.location} is a URL; gc works on a folder")
    root, before = store.storage.root, time.time() - keep_days * DAY
    keep = with_diagnoses(store, needed(store, store.entries("run")))
    found = []
    for stage in STAGES:
        for folder in sorted(root.glob(f"{stage}/*/*")):
            relative = str(folder.relative_to(root))
            if DAMAGED in folder.name:
                found.append(_waste(folder, "damaged", ""))
            elif relative not in keep:
                reason = "no run needs it" if (folder / RECORD).exists() else "unfinished"
                found.append(_waste(folder, reason, folder.name))
            else:
                found += [_waste(p, "half written", "") for p in folder.glob(f"{TEMPORARY}*")]
    for folder in sorted(root.glob("work/*")):
        if folder.name != "locks" and folder.is_dir():
            found.append(_waste(folder, "scratch", folder.name))
    return [waste for waste in found if _age(waste.path) <= before]


def remove(store: Store, waste: Iterable[Waste]) -> list[Waste]:
    """Remove it, except what another process is at work on; what was removed."""
    removed = []
    for one in waste:
        with _unlocked(store, one.digest) as free:
            if free:
                try:
                    _delete(one.path)
                except OSError as error:
                    raise disk_error(one.path.parent, error) from error
                removed.append(one)
    return removed


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        (path / RECORD).unlink(missing_ok=True)  # from here on it is no entry any more
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _waste(path: Path, reason: str, digest: str) -> Waste:
    return Waste(path, reason, sum(p.lstat().st_size for p in _files(path)), digest)


def _files(path: Path) -> list[Path]:
    if path.is_dir() and not path.is_symlink():
        return [p for p in path.rglob("*") if not p.is_dir()]
    return [path]


def _age(path: Path) -> float:
    """When anything of it was last written."""
    return max(p.lstat().st_mtime for p in [path, *_files(path)])


def _check_exists(store: Store) -> None:
    if isinstance(store.storage, LocalStorage) and not store.storage.root.is_dir():
        raise StoreError(f"there is no store at {store.storage.root}; give its folder with --store")


@contextmanager
def _unlocked(store: Store, digest: str) -> Iterator[bool]:
    """Hold the lock of a key; False where another process holds it."""
    from filelock import FileLock, Timeout

    path = store.storage.work_folder() / "locks" / f"{digest}.lock"
    if not digest or not path.exists():
        yield True
        return
    try:
        with FileLock(path, timeout=0):
            yield True
    except Timeout:
        yield False
