"""Moving results between machines: one uncompressed tar, every entry verified on both sides.

An archive holds the entries as they stand in a store, each record before its files, but for the
folders in which data of one's own lie: records in it name sets, not where they are.  Importing
extracts nothing: members are read into memory, held against record, checksum and key, and written
like any entry; nothing is written before the whole archive has been found sound.  Without
compression an archive cannot unpack to more than its own size.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oodbench.canonical_json import JSON, canonical_json
from oodbench.datasets.loading import find_places
from oodbench.datasets.paths.shown_names import NamesOnly
from oodbench.errors import OodbenchError, StoreError, UnknownNameError
from oodbench.flow.run_records import difference
from oodbench.flow.stored.runs import stored_runs
from oodbench.share.recomputed import recomputed
from oodbench.share.rounded_scores import SCORES, WHOLE, needed_bits, packed
from oodbench.store.maintenance import needed, with_diagnoses
from oodbench.store.payload import pack_table, unpack_table
from oodbench.store.records.files import pack_record
from oodbench.store.records.shapes import misfit
from oodbench.store.storage import atomic_file
from oodbench.store.store import (
    RECORD,
    SCHEMA,
    DamagedEntryError,
    Entry,
    Key,
    Store,
    entry_path,
    file_sums,
    read_record,
)

MEMBER = re.compile(
    r"((?:run|score|measure|fit|diagnosis)/[0-9a-f]{2}/[0-9a-f]{64})/([A-Za-z0-9_][\w.-]*)"
)
STATISTICS = "statistics.parquet"
#: The last member: how many entries there should be before it.
END = "oodbench-end.json"


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
    """Write the records of runs, the scores of their images and the diagnoses of their fits.

    A store that imports them shows the runs in its tables, tests and draws them, with neither
    models nor data.  Scores are rounded as far as no metric of `runs` notices
    (`oodbench.share.rounded_scores`); of measurements nothing is kept but which images were
    measured.  Both are marked as abridged: no store makes anything from them.
    """
    behind = with_diagnoses(store, needed(store, runs)).values()
    bits = needed_bits(store, runs)
    own = {run.path for run in runs} | {entry_path("score", digest) for digest in bits}
    own |= {entry_path("measure", str(e.parts["measure"])) for e in behind if e.path in own
            and e.stage == "score"}  # fmt: skip
    kept = {e.path: e for e in behind if e.path in own or e.stage == "diagnosis"}
    return _export(store, target, kept, bits)


def _export(
    store: Store, target: Path, entries: Mapping[str, Entry], bits: Mapping[str, int] | None = None
) -> Moved:
    """`bits`: of the scores of an entry, by digest; those that are not named stay whole."""
    written, left_out = 0, 0
    names = names_only(entry.record for entry in entries.values())
    with (
        atomic_file(target) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path, entry in sorted(entries.items()):
            original = store.get(entry.stage, entry.digest)  # not under the names asked for
            if original is None:
                left_out += 1
                continue
            try:
                members = {name: original.read(name) for name in original.files}
            except DamagedEntryError:
                left_out += 1
                continue
            record = without_folders(original, names)
            if bits is not None:
                record, members = _abridged(record, members, bits.get(entry.digest, WHOLE))
            for name, data in ({RECORD: pack_record(record)} | members).items():
                _add(archive, f"{path}/{name}", data)
            written += 1
        _add(archive, END, _end(written))
    return Moved(written, left_out=left_out)


def _abridged(
    record: dict[str, JSON], members: dict[str, bytes], bits: int
) -> tuple[dict[str, JSON], dict[str, bytes]]:
    """Record and files of an entry as they are published: scores of so many bits, images' places.

    What was imported so is handed on as it came.
    """
    stage = record["stage"]
    if record.get("abridged") or stage not in ("score", "measure"):
        return record, members
    if stage == "score":
        if bits >= WHOLE:
            return record, members
        files = {SCORES: packed(unpack_table(members[SCORES]), bits)}
        said: JSON = f"scores of {bits} significant bits"
    else:
        table = unpack_table(members[STATISTICS], ["index"])
        files, said = {STATISTICS: pack_table(table)}, "no statistics, the places of images alone"
    return record | {"abridged": said, "files": file_sums(files)}, files


def names_only(records: Iterable[Mapping[str, JSON]]) -> NamesOnly:
    """What leaves out where the sets lie that records name."""
    return NamesOnly(
        str(record[side]) for record in records for side in ("in_dist", "ood") if side in record
    )


def without_folders(entry: Entry, names: NamesOnly) -> dict[str, JSON]:
    """An entry's record in which sets have their names alone; its key stays as it is."""
    bound = {name: entry.record[name] for name in ("schema", "stage", "key", "parts", "files")}
    return {**names.of(dict(entry.record)), **bound}


def _end(entries: int) -> bytes:
    """The last member of an archive: without it, or with another count, something is missing."""
    return canonical_json({"schema": SCHEMA, "entries": entries}).encode()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def archived_runs(store: Store, source: Path) -> list[Entry]:
    """The runs of an archive, without their files; writes nothing.

    Every member is held against its checksum; metrics are taken as they stand (`verify_archive`
    computes them again).  StoreError names what is wrong.
    """
    return [entry for entry, *_ in _entries(store, source) if entry.stage == "run"]


def verify_archive(store: Store, source: Path) -> list[Entry]:
    """The entries of an archive, without their files, all of them sound; writes nothing.

    StoreError names what is wrong: damage, a record that fits no schema, metrics that are not those
    of the scores beside them, or that are others than those of a run that the store has.
    """
    found = []
    with recomputed(store) as metrics:
        for entry, _, files in _entries(store, source):
            found.append(entry)
            metrics.add(entry, files)
            if entry.stage == "run":
                _agree(store, source, entry)
        for run, seen in metrics.wrong():
            raise StoreError(
                f"{source}: the metrics of {_named(run)} are not those of its scores ({seen});"
                " nothing was imported"
            )
    return found


def import_store(store: Store, source: Path) -> Moved:
    """Add the entries of an archive that the store has not; StoreError names what is wrong.

    What is added says where it came from: tables mark it, and nothing is made from it unless it is
    trusted (see `oodbench.store.store.Store`).  An entry of the same key that is here already stays
    as it is.  One key has one result: where a run of the archive has the key of one that is here
    and other metrics, or other metrics than its scores give, nothing is imported.
    """
    verify_archive(store, source)  # all of it, before anything is written
    origin: dict[str, JSON] = {
        "from": source.name.encode(errors="replace").decode(),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    written, known = 0, 0
    for entry, record, files in _entries(store, source):
        key = Key(entry.stage, entry.parts)
        with store.lock(key):
            if store.get(key.stage, key.digest) is not None:
                known += 1
                continue
            store.write_raw(entry.path, files, pack_record(record, origin))
            written += 1
    return Moved(written, known)


def _named(run: Entry) -> str:
    return f"{run.record['detector']} on {run.record['pair']}, run {run.digest[:12]},"


def _agree(store: Store, source: Path, theirs: Entry) -> None:
    """StoreError where the store holds a run of this key whose metrics differ beyond rounding."""
    ours = store.get(theirs.stage, theirs.digest)
    if ours is None:
        return
    seen = difference(ours, theirs)
    if seen:
        raise StoreError(
            f"{source}: {_named(ours)} has other results under the same key"
            f" ({seen}); nothing was imported. One of the two was made"
            " with other code, versions or rounding than its key says; import into a store of its"
            " own to look at it, or remove the run here"
        )


#: Path of an entry, name of a file of it, bytes.
Member = tuple[str, str, bytes]
Record = Mapping[str, JSON]


def _entries(store: Store, source: Path) -> Iterator[tuple[Entry, Record, dict[str, bytes]]]:
    """Entry, record and payload of every entry of an archive, verified."""
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
        yield entry, entry.record, held
    raise StoreError(f"{source}: it is cut off; copy or export it again")


def _members(source: Path) -> Iterator[Member]:
    """(entry path, file name, bytes) of every member, in order; the last is ("", END, …)."""
    if not source.is_file():
        raise StoreError(f"{source}: there is no such file")
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            whole = os.fstat(file.fileno()).st_size
            for member in archive:
                match = MEMBER.fullmatch(member.name)
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
                plain = plain and not member.issparse()  # a few bytes that read as gigabytes
                if not plain or not (match or member.name == END):
                    raise StoreError(f"{source}: a member {member.name!r} is no file of a store")
                if not 0 <= member.size <= whole - member.offset_data:
                    raise StoreError(f"{source}: it is cut off; copy or export it again")
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
    wrong = misfit(record, imported=True)
    if wrong:
        raise StoreError(f"{source}: the record of {path} does not fit ({wrong})")
    return entry
