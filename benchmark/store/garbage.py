"""What may go from a store: entries that no run needs, and what kills left behind.

Only what the store itself has made goes, by its names, and nothing behind a link: what else lies
there is left alone, and a line says so.  While a damaged entry stands in the store nothing goes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from oodbench.errors import StoreError
from oodbench.store.locks import free
from oodbench.store.maintenance import check_exists
from oodbench.store.needs import Holdings, holdings, needs
from oodbench.store.ownership import (
    MARKER,
    PAYLOADS,
    RECORD,
    STAGES,
    foreign_to_entry,
    foreign_to_scratch,
    is_half_written,
    is_real_file,
    is_real_folder,
    is_store,
    own_folders,
    scratch_folders,
)
from oodbench.store.storage import LocalStorage, disk_error
from oodbench.store.store import Fault, Store

DAY = 86_400.0


@dataclass(frozen=True)
class Waste:
    """Something that may go: a path, why, how large, and the key whose lock guards it."""

    path: Path
    reason: str
    bytes: int
    digest: str = ""


@dataclass
class Findings:
    """What may go, why other things stay, and damaged entries, beside which nothing goes."""

    waste: list[Waste] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def collect(store: Store, keep_days: float) -> Findings:
    """What no run needs and is older than `keep_days`; reads the store and changes nothing.

    Entries that belong to no run (their run is not finished, or was asked for with other
    settings), scratch, damaged and half-written files.  StoreError where it is no store.
    """
    check_exists(store)
    if not isinstance(store.storage, LocalStorage):
        raise StoreError(f"{store.storage.location} is a URL; gc works on a folder")
    root, before = store.storage.root, time.time() - keep_days * DAY
    if not is_store(root):
        raise StoreError(
            f"{root} is no store: it holds neither {MARKER} nor an entry; nothing was touched"
        )
    held = holdings(store, root)
    damaged = [f"{p}: {u.reason}" for p, u in held.unsound.items() if u.fault is Fault.DAMAGED]
    if damaged:
        return Findings(damaged=damaged)
    needed = needs(held)
    found = Findings(notes=[*needed.reasons, *_links(root)])
    for stage in STAGES:
        for path in own_folders(root, stage):
            _judge(found, root, path, held, path in needed.kept)
    for path in scratch_folders(root):
        foreign = foreign_to_scratch(root / path)
        if foreign:
            found.notes.append(f"{path} is left alone: it holds {foreign[0]}, not a plain file")
        else:
            found.waste.append(_waste(root / path, "scratch", path.rpartition("/")[2]))
    found.waste = [waste for waste in found.waste if _age(waste.path) <= before]
    return found


def _judge(found: Findings, root: Path, path: str, held: Holdings, needed: bool) -> None:
    """Add an entry's folder to what may go, or the half-written files of one that stays."""
    folder, name = root / path, path.rpartition("/")[2]
    if needed and "." not in name:
        found.waste += [
            _waste(file, "half written", name)
            for file in sorted(folder.iterdir())
            if is_half_written(file.name) and is_real_file(file)
        ]
        return
    if needed:
        return
    payload = held.sound[path].files if path in held.sound else PAYLOADS
    foreign = foreign_to_entry(folder, payload)
    if foreign:
        found.notes.append(f"{path} is left alone: {foreign[0]} in it is not the store's")
    elif "." in name:
        found.waste.append(_waste(folder, "damaged", ""))
    else:
        reason = "no run needs it" if path in held.sound else "unfinished"
        found.waste.append(_waste(folder, reason, name))


def judged(root: Path, path: str, payload: Iterable[str]) -> Waste:
    """An entry that was named for removal; StoreError where anything in it is not the store's."""
    foreign = foreign_to_entry(root / path, payload)
    if foreign:
        raise StoreError(
            f"{path} holds {foreign[0]}, which is not the store's; nothing was removed"
        )
    return _waste(root / path, "named" if path.startswith("run/") else "only they need it",
                  path.rpartition("/")[2])  # fmt: skip


def _links(root: Path) -> list[str]:
    """A line for every link among the folders of a store: gc does not look behind it."""
    places = [root / name for name in (*STAGES, "work")]
    places += [p for s in STAGES if is_real_folder(root / s) for p in sorted((root / s).iterdir())]
    return [
        f"{place.relative_to(root)} is a link; nothing behind it is removed"
        for place in places
        if place.is_symlink()
    ]


def remove(store: Store, waste: Iterable[Waste]) -> list[Waste]:
    """Remove it, except what another process is at work on; what was removed."""
    removed = []
    for one in waste:
        lock = store.storage.work_folder() / "locks" / f"{one.digest}.lock"
        with free(lock) if one.digest else nullcontext(True) as ours:
            if ours:
                try:
                    _delete(one.path)
                except OSError as error:
                    raise disk_error(one.path.parent, error) from error
                removed.append(one)
    return removed


def _delete(path: Path) -> None:
    if not is_real_folder(path):
        path.unlink(missing_ok=True)
        return
    (path / RECORD).unlink(missing_ok=True)  # from here on it is no entry any more
    for above, folders, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(above, name))
        for name in folders:
            os.rmdir(os.path.join(above, name))
    os.rmdir(path)


def _waste(path: Path, reason: str, digest: str) -> Waste:
    return Waste(path, reason, sum(p.lstat().st_size for p in _files(path)), digest)


def _files(path: Path) -> list[Path]:
    if is_real_folder(path):
        return [Path(above, name) for above, _, files in os.walk(path) for name in files]
    return [path]


def _age(path: Path) -> float:
    """When anything of it was last written."""
    return max(p.lstat().st_mtime for p in [path, *_files(path)])
