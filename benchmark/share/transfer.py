"""Moving results between machines: one uncompressed tar, every entry verified on both sides.

An archive holds the entries as they stand in a store, each record before its files.  Importing
extracts nothing: members are read into memory, held against record, checksum and key, and written
like any entry; nothing is written before the whole archive has been found sound.  Without
compression an archive cannot unpack to more than its own size.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from oodbench.canonical_json import canonical_json
from oodbench.datasets.loading import find_places
from oodbench.declare.layouts import METRICS
from oodbench.errors import OodbenchError, StoreError, UnknownNameError
from oodbench.flow.stored.runs import stored_runs
from oodbench.leaderboards.rows import group_runs, make_rows
from oodbench.store.maintenance import needed, with_diagnoses
from oodbench.store.storage import atomic_file
from oodbench.store.store import RECORD, SCHEMA, DamagedEntryError, Entry, Key, Store, read_record

MEMBER = re.compile(
    r"((?:run|score|measure|fit|diagnosis)/[0-9a-f]{2}/[0-9a-f]{64})/([A-Za-z0-9_][\w.-]*)"
)
#: The last member: how many entries there should be before it.
END = "oodbench-end.json"
#: Percentage points by which a metric of one key may differ: other threads round otherwise.
SAME = 0.05


@dataclass(frozen=True)
class Moved:
    """How many entries were written, were there already, and were left out (damaged)."""

    written: int
    known: int = 0
    left_out: int = 0


def export_store(
    store: Store, target: Path, pairs: Sequence[str] = (), *, fits: bool = True
) -> Moved:
    """Write runs (of `pairs`, default all) and what they were made from; `fits`: weights too.

    UnknownNameError on a pair without a run; a damaged entry is set aside and left out.
    """
    asked = stored_runs(store, pairs, find_places((), store.storage.location))
    runs, pairs = asked.runs, asked.pairs
    known = {str(run.record.get("pair")) for run in runs}
    for pair in pairs:
        if pair not in known:
            raise UnknownNameError("pair with a stored run", pair, known)
    chosen = [run for run in runs if not pairs or run.record.get("pair") in pairs]
    if not chosen:
        raise StoreError(f"no finished run in {store.storage.location}; there is nothing to export")
    found = with_diagnoses(store, needed(store, chosen))
    return _export(store, target, {p: e for p, e in found.items() if fits or e.stage != "fit"})


def export_records(store: Store, target: Path, runs: Sequence[Entry]) -> Moved:
    """Write the records of runs and the diagnoses of their fits: every figure of a table, no score.

    A store that imports them shows the runs in its tables; what needs the scores of single images
    (a paired test, a figure) says that they are not there.
    """
    behind = with_diagnoses(store, needed(store, runs)).values()
    own = {run.path for run in runs}
    kept = {e.path: e for e in behind if e.path in own or e.stage == "diagnosis"}
    return _export(store, target, kept)


def _export(store: Store, target: Path, entries: Mapping[str, Entry]) -> Moved:
    written, left_out = 0, 0
    with (
        atomic_file(target) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path, entry in sorted(entries.items()):
            try:
                members = {name: entry.read(name) for name in entry.files}
            except DamagedEntryError:
                left_out += 1
                continue
            record = store.storage.read(f"{path}/{RECORD}")
            assert record is not None
            for name, data in ({RECORD: record} | members).items():
                _add(archive, f"{path}/{name}", data)
            written += 1
        _add(archive, END, _end(written))
    return Moved(written, left_out=left_out)


def _end(entries: int) -> bytes:
    """The last member of an archive: without it, or with another count, something is missing."""
    return canonical_json({"schema": SCHEMA, "entries": entries}).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def import_store(store: Store, source: Path) -> Moved:
    """Add the entries of an archive that the store has not; StoreError names what is wrong.

    An entry of the same key that is here already stays as it is.  One key has one result: where a
    run of the archive has the key of one that is here and other metrics, nothing is imported.
    """
    for entry, _, _ in _entries(store, source):  # all of it, before anything is written
        if entry.stage == "run":
            _agree(store, source, entry)
    written, known = 0, 0
    for entry, record, files in _entries(store, source):
        key = Key(entry.stage, entry.parts)
        with store.lock(key):
            if store.find(key) is not None:
                known += 1
                continue
            store.write_raw(entry.path, files, record)
            written += 1
    return Moved(written, known)


def _agree(store: Store, source: Path, theirs: Entry) -> None:
    """StoreError where the store holds a run of this key whose metrics differ beyond rounding."""
    ours = store.find(Key(theirs.stage, theirs.parts))
    if ours is None:
        return
    mine, others = (_metrics(entry) for entry in (ours, theirs))
    apart = [name for name in mine.keys() & others.keys() if abs(mine[name] - others[name]) > SAME]
    if apart or mine.keys() != others.keys():
        seen = "other scores"
        if apart:
            name = max(apart, key=lambda name: abs(mine[name] - others[name]))
            seen = f"{' '.join(name)} is {mine[name]:.2f} here and {others[name]:.2f} there"
        raise StoreError(
            f"{source}: {ours.record['detector']} on {ours.record['pair']}, run"
            f" {theirs.digest[:12]}, has other results under the same key"
            f" ({seen}); nothing was imported. One of the two was made"
            " with other code, versions or rounding than its key says; import into a store of its"
            " own to look at it, or remove the run here"
        )


def _metrics(run: Entry) -> dict[tuple[str, str], float]:
    """Score and metric to the value in percent."""
    scores = cast("Mapping[str, Mapping[str, Mapping[str, float]]]", run.record["scores"])
    return {
        (name, metric): 100 * float(found[metric]["value"])
        for name, found in scores.items()
        for metric in METRICS
    }


Member = tuple[str, str, bytes]


def _entries(store: Store, source: Path) -> Iterator[tuple[Entry, bytes, dict[str, bytes]]]:
    """Entry, record file and payload of every entry of an archive, verified."""
    seen: set[str] = set()
    members = _members(source)
    for path, name, record in members:
        if (path, name) == ("", END):
            if record != _end(len(seen)):
                raise StoreError(f"{source}: entries are missing; export it again")
            return
        if name != RECORD or path in seen:
            raise StoreError(f"{source}: {path}/{name} stands where a record should")
        seen.add(path)
        entry = _checked(store, source, path, record)
        held: dict[str, bytes] = {}
        for wanted, file in entry.files.items():
            where, name, data = next(members, ("", "", b""))
            checksum = hashlib.sha256(data).hexdigest()
            if (where, name, checksum) != (path, wanted, file["sha256"]):
                raise StoreError(f"{source}: {path}/{wanted} does not match its checksum")
            held[wanted] = data
        yield entry, record, held
    raise StoreError(f"{source}: it is cut off; copy or export it again")


def _members(source: Path) -> Iterator[Member]:
    """(entry path, file name, bytes) of every member, in order; the last is ("", END, …)."""
    if not source.is_file():
        raise StoreError(f"{source}: there is no such file")
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                match = MEMBER.fullmatch(member.name)
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                if not plain or not (match or member.name == END):
                    raise StoreError(f"{source}: a member {member.name!r} is no file of a store")
                content = archive.extractfile(member)
                data = b"" if content is None else content.read()
                if len(data) != member.size:
                    raise StoreError(f"{source}: it is cut off; copy or export it again")
                yield (match[1], match[2], data) if match else ("", END, data)
    except OodbenchError:
        raise
    except Exception as error:  # tarfile raises anything on a damaged file
        raise StoreError(f"{source}: not an archive of `oodbench store export`") from error


def _checked(store: Store, source: Path, path: str, data: bytes) -> Entry:
    """The entry of a record file; StoreError where record, key or table row are not sound."""
    record = read_record(data)
    if record is None:
        raise StoreError(f"{source}: the record of {path} does not match its checksum")
    if record["schema"] != SCHEMA:
        raise StoreError(f"{source}: {path} was written by another version of oodbench")
    entry = Entry(store, path, record)
    if Key(entry.stage, entry.parts).path != path:
        raise StoreError(f"{source}: the record of {path} belongs to another key")
    if entry.stage == "run":
        try:
            (group,) = group_runs([entry])
            cells = [cell for row in make_rows(group) for cell in row.cells.values()]
            numbers = [n for cell in cells for n in (cell.value, cell.low, cell.high)]
            sound = all(n is not None and 0 <= n <= 100 for n in numbers)
        except (LookupError, TypeError, ValueError, AttributeError):
            sound = False
        if not sound:
            raise StoreError(f"{source}: the run {path} has no table row of this version")
    return entry
