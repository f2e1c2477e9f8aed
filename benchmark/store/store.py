"""The content-addressed store: every fit, measurement, score and run under the key that made it.

Layout: ``<stage>/<first two digits>/<digest>/`` with the payload files and ``record.json``.  The
payload is written first and the record last, each atomically, so that an entry without its record
does not exist.  The record holds the key's parts and the SHA-256 of every file; both are checked
when read, the key against the parts and the folder, and an entry that fails is set aside as
``<digest>.damaged-<n>``; what needs it makes it anew.  Nothing that cannot change a result (device,
paths, progress) is in a key; all of it is in the record.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from oodbench.canonical_json import JSON, digest
from oodbench.errors import StoreError
from oodbench.interruption import held
from oodbench.store.locks import locked
from oodbench.store.ownership import RECORD as RECORD
from oodbench.store.ownership import STAGES as STAGES
from oodbench.store.records.files import FILE_NAME, IMPORTED, pack_record
from oodbench.store.records.files import SCHEMA as SCHEMA
from oodbench.store.records.files import read_record as read_record
from oodbench.store.records.named_entries import named_in
from oodbench.store.running.heartbeats import host, read_beat
from oodbench.store.running.kept_checkpoints import KeptCheckpoints
from oodbench.store.storage import (
    LocalStorage,
    UnreadableFileError,
    disk_error,
    iterate_prefixes,
    open_storage,
)

T = TypeVar("T")
log = logging.getLogger("oodbench.store")


def entry_path(stage: str, digest: str) -> str:
    """Folder of an entry, relative to the store."""
    return f"{stage}/{digest[:2]}/{digest}"


def file_sums(files: Mapping[str, bytes]) -> dict[str, JSON]:
    """What the record of an entry says of its files: SHA-256 and size, by name."""
    return {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }


@dataclass(frozen=True)
class Key:
    """What determines a result: a stage ("fit", "measure", "score", "run") and JSON parts."""

    stage: str
    parts: Mapping[str, JSON]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (64 hexadecimal digits) of schema, stage and parts in canonical form."""
        return digest({"schema": SCHEMA, "stage": self.stage, "parts": self.parts})

    @property
    def path(self) -> str:
        """Folder of the entry, relative to the store."""
        return entry_path(self.stage, self.digest)


class DamagedEntryError(StoreError):
    """A stored file does not match its checksum; the entry has been set aside."""


@dataclass(frozen=True)
class Entry:
    """A complete entry; `record` holds the key's parts, checksums and provenance."""

    store: Store
    path: str
    record: Mapping[str, JSON]

    @property
    def stage(self) -> str:
        """The stage it belongs to."""
        return str(self.record["stage"])

    @property
    def digest(self) -> str:
        """Digest of its key."""
        return str(self.record["key"])

    @property
    def parts(self) -> Mapping[str, JSON]:
        """Parts of its key."""
        return cast("Mapping[str, JSON]", self.record["parts"])

    @property
    def files(self) -> Mapping[str, Mapping[str, JSON]]:
        """``sha256`` and ``bytes`` of every payload file."""
        return cast("Mapping[str, Mapping[str, JSON]]", self.record["files"])

    @property
    def imported(self) -> Mapping[str, JSON]:
        """``from`` and ``at`` of what was imported, or rests on what was; empty for one's own."""
        return cast("Mapping[str, JSON]", self.record.get(IMPORTED, {}))

    def read(self, name: str) -> bytes:
        """A payload file; DamagedEntryError (entry set aside) where it is not what was written."""
        if name not in self.files:
            known = ", ".join(self.files)
            raise StoreError(f"entry {self.digest[:12]} has no file {name!r}: {known}")
        reason = f"{name} does not match its checksum"
        try:
            data = self.store.storage.read(f"{self.path}/{name}")
        except UnreadableFileError as error:
            if error.denied:
                raise
            data, reason = None, str(error)
        if data is None or hashlib.sha256(data).hexdigest() != self.files[name]["sha256"]:
            raise self.damaged(reason)
        return data

    def parse(self, name: str, parser: Callable[[bytes], T]) -> T:
        """`parser` of a payload file; DamagedEntryError where it raises ValueError."""
        data = self.read(name)
        try:
            return parser(data)
        except ValueError as error:
            raise self.damaged(f"{name} is {error}") from error

    def damaged(self, reason: str) -> DamagedEntryError:
        """Set the entry aside; the error to raise."""
        self.store.set_aside(self.path, reason)
        return DamagedEntryError(f"{self.path} was damaged: {reason}")


class Fault(Enum):
    """Why an entry cannot be used; only what was read and is not what was written is damage."""

    ABSENT, DENIED, DAMAGED, VERSION = range(4)


@dataclass(frozen=True)
class Unsound:
    """No usable entry: why, and the path of what stands in the way (the entry's or above it)."""

    fault: Fault
    reason: str
    path: str


class Store:
    """A folder, or any URL that fsspec knows, that holds entries.

    On a URL the lock of a key binds the processes of one machine only, and between machines the
    heartbeat of whoever makes it (`oodbench.store.running.heartbeats`): two that begin within the
    same second may compute an entry twice, but not a wrong one, since its content follows from its
    key and its record comes last.  `keep_checkpoints`: those of running work are copied to the URL.

    What was imported is shown, but nothing is made from it: `find` passes it over unless
    `trust_imported`, and `untrusted` holds the paths of what it passed over.
    """

    def __init__(
        self, location: str | os.PathLike[str] = "results/store", *, trust_imported: bool = False,
        keep_checkpoints: bool = False,
    ) -> None:  # fmt: skip
        #: As it was named, with what a URL may hold that is not to be shown.
        self.given = os.fspath(location)
        self.storage, self.trust_imported = open_storage(location), trust_imported
        self.keep_checkpoints = keep_checkpoints and not isinstance(self.storage, LocalStorage)
        self.untrusted: set[str] = set()
        self._told: set[str] = set()

    def find(self, key: Key) -> Entry | None:
        """The entry of a key that results may be made from, or None.

        A damaged record is set aside and counts as absent, and so does an imported one that is not
        trusted or that was abridged when it was published.  StoreError where it is there and may
        not be read: to make it again would be in vain.
        """
        found = self._load(key.path, needed=True)
        if found is not None and found.imported and not self.trust_imported:
            self.untrusted.add(found.path)
            return None
        return None if found is not None and found.record.get("abridged") else found

    def holds(self, key: Key) -> bool:
        """Whether the entry of a key is there with all of its files, in their sizes.

        One that is not whole (half a copy) is set aside, so that it is made again.
        """
        entry = self.find(key)
        if entry is None:
            return False
        for name, file in entry.files.items():
            size = self.storage.size(f"{entry.path}/{name}")
            if size != file["bytes"]:
                said = "is gone" if size is None else "is not of its size"
                self.set_aside(entry.path, f"{name} {said}")
                return False
        return True

    def write(
        self, key: Key, files: Mapping[str, bytes], record: Mapping[str, JSON] | None = None
    ) -> Entry:
        """Write payload files, then the record that makes them an entry."""
        for name in (*files, key.stage):
            if not FILE_NAME.fullmatch(name) or name == RECORD:
                raise ValueError(f"{name!r} cannot name a file of an entry")
        body: dict[str, JSON] = {
            **(record or {}),
            "schema": SCHEMA,
            "stage": key.stage,
            "key": key.digest,
            "parts": dict(key.parts),
            "files": file_sums(files),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        data = pack_record(body, self._imported_behind(key))
        self.write_raw(key.path, files, data)
        written = read_record(data)
        assert written is not None
        return Entry(self, key.path, written)

    def _imported_behind(self, key: Key) -> Mapping[str, JSON] | None:
        """Where an entry that this one is made from was imported from: then this one was, too."""
        for stage, named in named_in(key.stage, key.parts):
            entry = self.get(stage, named)
            if entry is not None and entry.imported:
                return entry.imported
        return None

    def write_raw(self, path: str, files: Mapping[str, bytes], record: bytes) -> None:
        """Payload files, then the record, as they stand; a signal to stop waits until then."""
        self.storage.mark()
        with held():
            for name, data in files.items():
                self.storage.write(f"{path}/{name}", data)
            self.storage.write(f"{path}/{RECORD}", record)

    def get(self, stage: str, digest: str) -> Entry | None:
        """The entry of a stage with this digest, as other entries' parts name it, or None."""
        return self._load(entry_path(stage, digest))

    def entries(self, stage: str) -> Iterator[Entry]:
        """Every complete entry of a stage, in the order of their digests."""
        for path, _ in iterate_prefixes(self.storage, stage):
            entry = self._load(path)
            if entry is not None:
                yield entry

    def resolve(self, prefix: str, stages: tuple[str, ...] = STAGES) -> Entry:
        """The entry whose digest starts with `prefix` (4 digits or more); StoreError otherwise."""
        if len(prefix) < 4:
            raise StoreError(f"{prefix!r} is too short; give at least 4 digits of the key")
        found = [
            (path, name)
            for stage in stages
            for path, name in iterate_prefixes(self.storage, stage)
            if name.startswith(prefix)
        ]
        if len(found) > 1:
            names = ", ".join(name[: len(prefix) + 4] for _, name in found[:5])
            raise StoreError(f"{prefix!r} is ambiguous: {names}; give more digits")
        entry = self._load(found[0][0]) if found else None
        if entry is None:
            raise StoreError(
                f"no entry starts with {prefix!r} in {self.storage.location};"
                " `oodbench leaderboard` prints the runs"
            )
        return entry

    @contextmanager
    def lock(self, key: Key, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """One writer per key (see `oodbench.store.locks`); `on_wait` is told of a wait at once."""
        folder = self.storage.work_folder() / "locks"
        self.storage.mark()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(folder, error) from error
        what = f"{key.stage} {key.digest[:12]}"
        with locked(folder / f"{key.digest}.lock", what, on_wait):
            yield

    def untrusted_note(self) -> str:
        """How many imported entries were passed over, and the way out; "" where none was."""
        count = len(self.untrusted)
        entries = "entry is" if count == 1 else "entries are"
        return (
            (
                f"{count} imported {entries} not built upon, one's own computed instead;"
                " --trust-imported takes what was imported as it is"
            )
            if count
            else ""
        )

    def obtain(
        self, key: Key, make: Callable[[Key], Entry], on_wait: Callable[[str], None] | None = None
    ) -> Entry:
        """The entry of a key: found, or made under the key's lock by `make(key)`."""
        entry = self.find(key)
        if entry is not None:
            return entry
        with self.lock(key, on_wait):
            self._wait_elsewhere(key, on_wait)
            return self.find(key) or make(key)

    def _wait_elsewhere(self, key: Key, on_wait: Callable[[str], None] | None) -> None:
        """On a URL, wait for another machine that is making an entry, as its heartbeat tells."""
        if isinstance(self.storage, LocalStorage):
            return
        told = False
        while (beat := read_beat(self.storage, key.digest)) is not None and beat.fresh:
            if beat.owner == (host(), os.getpid()) or self.find(key) is not None:
                return
            if not told and on_wait is not None:
                on_wait(f"{beat.host} is making {key.stage} {key.digest[:12]}; waiting")
            told = True
            time.sleep(2.0)

    def kept_checkpoints(self, key: Key) -> KeptCheckpoints | None:
        """The copy of a step's scratch in the store, where one is kept."""
        return (
            KeptCheckpoints(self.storage, key.digest, self.scratch(key))
            if self.keep_checkpoints
            else None
        )

    def scratch(self, key: Key) -> Path:
        """A local folder for the checkpoints of a running step; it survives a kill."""
        folder = self.storage.work_folder() / key.digest
        self.storage.mark()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(folder, error) from error
        return folder

    def discard_scratch(self, key: Key) -> None:
        """Remove what `scratch` holds, once the entry is written."""
        folder = self.storage.work_folder() / key.digest
        shutil.rmtree(folder, ignore_errors=True)
        if self.keep_checkpoints:
            KeptCheckpoints(self.storage, key.digest, folder).discard()

    def set_aside(self, path: str, reason: str) -> None:
        """Rename a damaged entry and say so in one line; its key then counts as absent.

        Where that cannot be (read-only, not the store's own, behind a link) it is passed over.
        """
        target = f"{path}.damaged-{time.time_ns()}"
        try:
            if not self.storage.owns(path):
                raise StoreError("it is not the store's own; move it away by hand")
            self.storage.rename(path, target)
        except StoreError as error:
            log.warning("%s: %s; passed over (%s)", path, reason, error)
            return
        log.warning(
            "%s: %s; set aside as %s; what needs it makes it again",
            path,
            reason,
            target.rsplit("/", 1)[-1],
        )

    def inspect(self, path: str) -> Entry | Unsound:
        """What stands at an entry's path; reads it and changes nothing."""
        try:
            data = self.storage.read(f"{path}/{RECORD}")
        except UnreadableFileError as error:
            fault = Fault.DENIED if error.denied else Fault.DAMAGED
            return Unsound(fault, str(error), error.path if path.startswith(error.path) else path)
        if data is None:
            return Unsound(Fault.ABSENT, "it has no record", path)
        record = read_record(data)
        if record is None:
            return Unsound(Fault.DAMAGED, "its record is damaged", path)
        if record["schema"] != SCHEMA:
            return Unsound(Fault.VERSION, "it was written by another version of oodbench", path)
        if entry_path(str(record["stage"]), str(record["key"])) != path:
            return Unsound(Fault.DAMAGED, "its record belongs to another key", path)
        return Entry(self, path, record)

    def _load(self, path: str, *, needed: bool = False) -> Entry | None:
        found = self.inspect(path)
        if isinstance(found, Entry):
            from oodbench.store.records.shapes import misfit

            wrong = misfit(found.record, imported=bool(found.imported))
            if wrong and path not in self._told:
                self._told.add(path)
                log.warning("%s: its record does not fit (%s); passed over", path, wrong)
            return None if wrong else found
        if needed and found.fault is Fault.DENIED:
            raise StoreError(f"{found.reason}; make it readable or give another place with --store")
        if found.fault is Fault.DAMAGED:
            self.set_aside(found.path, found.reason)
        elif found.fault is not Fault.ABSENT:
            log.warning("%s: %s; passed over", path, found.reason)
        return None
