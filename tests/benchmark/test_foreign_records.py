"""Records and archives of strangers: what does not fit or unpacks too far is passed over."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive_files import pack
from in_process import invoke

from oodbench.canonical_json import JSON, digest
from oodbench.datasets.loading import DataPlaces, load
from oodbench.errors import DataError, StoreError
from oodbench.share.transfer import END, import_store
from oodbench.store.key_differences import explain
from oodbench.store.payload import pack_table, unpack_table
from oodbench.store.records.files import pack_record
from oodbench.store.store import RECORD, Key, Store, entry_path

ORIGIN: dict[str, JSON] = {"from": "lab.tar", "at": "2026-11-29T00:00:00+00:00"}
LAYER = {"layer": 1, "units": 4, "active_units": 2, "kl_nats": 1.0}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    run = ("run", "--pair", "china-flower", "--detector", "png-length", "--quiet")
    assert invoke(folder, *run, "--store", "mine")[0] == 0
    return folder


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        del record[name]

    return change


def having(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(changes)


def in_parts(**changes: object) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        record["parts"] = {k: v for k, v in (record["parts"] | changes).items() if v is not None}

    return change


def metric(**changes: object) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        record["scores"]["score"]["fpr80"].update(changes)

    return change


STRANGE: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "numbers as notes": ("run", having(notes=[5])),
    "no diagnostics": ("run", without("diagnostics")),
    "half a character": ("run", having(title="x\ud800y")),
    "no scores": ("run", having(scores={})),
    "no revision": ("run", having(source={"detector": {"name": "png-length"}})),
    "an order of other scores": ("run", having(score_order=["of", "others"])),
    "no sides": ("run", in_parts(id_scores=None)),
    "text as a seed": ("run", having(seed="0")),
    "more than all": ("run", metric(value=1.5)),
    "a truth as a number": ("run", metric(low=True)),
    "a cost in words": ("run", having(cost="much")),
    "a diagnosis of nothing": ("diagnosis", in_parts(fit=None)),
    "layers that are a number": ("diagnosis", having(layers=7)),
    "layers of nothing": ("diagnosis", having(layers=[LAYER])),
    "a fit without seconds": ("fit", without("seconds")),
    "a measurement of text": ("measure", having(images="many")),
    "fits that are a number": ("measure", in_parts(fits=5)),
    "scores of nothing": ("score", in_parts(measure=None)),
}


def strange(honest: Path, kind: str) -> tuple[str, bytes]:
    """Path and record file of an entry that no reader could use, its checksum right."""
    stage, change = STRANGE[kind]
    machine = {"device": "cpu", "device_name": "x"}
    body: dict[str, Any] = {
        "schema": 1, "stage": stage, "created": "2026-11-29T00:00:00+00:00", "files": {},
        "name": "x", "in_dist": "china", "seconds": 1.5, "train_images": 9, "machine": machine,
    }  # fmt: skip
    if stage == "run":
        found = next(iter(Store(honest / "mine").entries("run")))
        body = json.loads(json.dumps(found.record)) | {"files": {}}
        body["parts"]["again"] = kind
    elif stage == "fit":
        body["parts"] = {"model": "hvae", "train": "a" * 64, "seed": 0, "again": kind}
    elif stage == "measure":
        body |= {"parts": {"images": "a" * 64, "fits": []}, "images": 9, "ms_per_image": 1.5}
    elif stage == "score":
        body["parts"] = {"measure": "a" * 64, "again": kind}
    else:
        body |= {"parts": {"fit": "a" * 64}, "recipe": "F3", "variant": "v", "seed": 0,
                 "images": 9, "layers": []}  # fmt: skip
    change(body)
    body["key"] = Key(stage, body["parts"]).digest
    return entry_path(stage, body["key"]), pack_record(body)


@pytest.mark.parametrize("kind", STRANGE)
def test_what_no_reader_could_use_is_not_imported(honest: Path, tmp_path: Path, kind: str) -> None:
    path, record = strange(honest, kind)
    pack(tmp_path / "lab.tar", [(f"{path}/{RECORD}", record), (END, b'{"entries":1,"schema":1}')])
    with pytest.raises(StoreError, match=rf"the record of {path} does not fit \(") as caught:
        import_store(Store(tmp_path / "mine"), tmp_path / "lab.tar")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("imported", [True, False], ids=["imported", "planted"])
@pytest.mark.parametrize("kind", STRANGE)
def test_what_no_reader_could_use_is_passed_over(
    honest: Path, tmp_path: Path, kind: str, imported: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As earlier versions imported it, or copied into the folder."""
    shutil.copytree(honest / "mine", tmp_path / "mine")
    table = invoke(tmp_path, "leaderboard", "--store", "mine")[1]
    path, record = strange(honest, kind)
    if imported:
        record = pack_record(json.loads(record)["record"], ORIGIN)
    (tmp_path / "mine" / path).mkdir(parents=True)
    (tmp_path / "mine" / path / RECORD).write_bytes(record)
    # One's own may lack what it does not need, and hold any text.
    lenient = {"half a character", "a fit without seconds", "layers of nothing"}
    strict = imported or kind not in lenient
    status, out, _ = invoke(tmp_path, "leaderboard", "--store", "mine")
    assert status == 0
    if strict:
        assert out == table
    if strict and path.startswith("run/"):
        (said,) = [r.getMessage() for r in caplog.records]
        assert "its record does not fit" in said
        assert "passed over" in said
    status, out, err = invoke(tmp_path, "store", "verify", "--store", "mine")
    assert status == 0
    assert ("does not fit" in err) == strict
    for command in (
        ("leaderboard", "--layout", "general", "--format", "csv"), ("store", "gc", "--dry-run"),
        ("report", "--pictures", "0"), ("store", "export", "x.tar"),
        ("run", "--pair", "china-flower", "--detector", "png-length", "--quiet"),
    ):  # fmt: skip
        if kind == "half a character" and not imported and command[0] == "report":
            continue
        assert invoke(tmp_path, *command, "--store", "mine")[0] == 0, command


def test_numbers_that_are_none_are_damage(honest: Path, tmp_path: Path) -> None:
    """NaN is no JSON; a checksum over its text would let it through to every table."""
    shutil.copytree(honest / "mine", tmp_path / "mine")
    store = Store(tmp_path / "mine")
    (run,) = store.entries("run")
    file = tmp_path / "mine" / run.path / RECORD
    text = file.read_text()
    inner = text.removeprefix('{"record":').rpartition(',"sha256"')[0]
    inner = inner.replace('"seed":0', '"seed":NaN')
    seal = hashlib.sha256(inner.encode()).hexdigest()
    file.write_text(f'{{"record":{inner},"sha256":"{seal}"}}')
    assert list(store.entries("run")) == []


# ---------------------------------------------------------------------- what unpacks too far
def sparse(path: Path, name: str, size: int) -> None:
    """A tar of ten kilobytes with one member of `size` bytes that are not in it (PAX 1.0)."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }  # fmt: skip
    data = b"1\n0\n0\n".ljust(512, b"\0")
    info.size = len(data)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(data))


def test_members_with_holes_and_beyond_the_archive_are_refused(tmp_path: Path) -> None:
    name = f"fit/ab/ab{'0' * 62}/{RECORD}"
    sparse(tmp_path / "x.tar", name, 1 << 40)
    with tarfile.open(tmp_path / "x.tar") as archive:
        (member,) = archive
        assert member.issparse()
    with pytest.raises(StoreError, match="is no file of a store"):
        import_store(Store(tmp_path / "mine"), tmp_path / "x.tar")
    info = tarfile.TarInfo(name)
    info.size = 1 << 40
    (tmp_path / "y.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(StoreError, match="cut off"):
        import_store(Store(tmp_path / "mine"), tmp_path / "y.tar")


def test_images_with_holes_are_refused(tmp_path: Path) -> None:
    sparse(tmp_path / "x.tar", "photo.png", 1 << 40)
    with pytest.raises(DataError, match="stored with holes"):
        load(str(tmp_path / "x.tar"), "test", DataPlaces((), tmp_path / "cache"), divide=True)


def table_of(columns: dict[str, pa.Array]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def test_tables_that_unpack_too_far_are_refused_before_they_do() -> None:
    zeros = pa.array(np.zeros(1 << 20, dtype=np.int8))
    packed = table_of({f"c{number}": zeros for number in range(200)})
    assert len(packed) < 1 << 20
    with pytest.raises(ValueError, match=r"1,048,576 rows in \d+"):
        unpack_table(packed)
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1 << 20, dtype=np.int8)), 1 << 20)
    assert unpack_table(table_of({"wide": wide}))["wide"].shape == (1, 1 << 20)
    with pytest.raises(ValueError, match="column of string"):
        unpack_table(table_of({"text": pa.array(["x"])}))


def test_a_table_has_the_rows_that_its_entry_says() -> None:
    data = pack_table({"score": np.zeros(7)})
    assert len(unpack_table(data, rows=7)["score"]) == 7
    with pytest.raises(ValueError, match="7 rows where 6 belong"):
        unpack_table(data, rows=6)


def test_honest_constant_columns_unpack() -> None:
    """A detector that gives a million images one score is a result, and packs to nothing."""
    data = pack_table({"score": np.zeros(1_000_000), "second": np.ones(1_000_000)})
    assert len(data) < 100_000
    assert len(unpack_table(data, rows=1_000_000)["second"]) == 1_000_000


# ---------------------------------------------------------------------- what does not end
def test_why_ends_on_keys_that_name_each_other_thirty_fold(tmp_path: Path) -> None:
    """30^6 ways lead through six levels of thirty names each."""
    store = Store(tmp_path / "mine")
    found = []
    for side in "ab":
        below: list[JSON] = [side]
        for level in range(6):
            entry = store.write(Key("fit", {"level": level, "below": below}), {})
            below = [entry.digest] * 30
        found.append(entry)
    rows = explain(dict(found[0].parts), dict(found[1].parts), store)
    assert rows == [(rows[0][0], "a", "b")]
    assert rows[0][0].endswith("below[0]")
    status, out, _ = invoke(tmp_path, "why", found[0].digest, found[1].digest, "--store", "mine")
    assert status == 0
    assert len(out.splitlines()) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_as_a_record_is_damage_and_not_waited_for(honest: Path, tmp_path: Path) -> None:
    shutil.copytree(honest / "mine", tmp_path / "mine")
    (run,) = Store(tmp_path / "mine").entries("run")
    (tmp_path / "mine" / run.path / RECORD).unlink()
    os.mkfifo(tmp_path / "mine" / run.path / RECORD)
    status, out, _ = invoke(tmp_path, "store", "gc", "--store", "mine")
    assert status == 2  # it names the damage, and removes nothing
    status, out, _ = invoke(tmp_path, "leaderboard", "--store", "mine")
    assert (status, "no finished run" in out) == (0, True)


def test_the_digest_of_a_record_is_that_of_its_text(honest: Path) -> None:
    """Whoever reads a record may rely on the checksum beside it, wherever it was imported from."""
    (run,) = Store(honest / "mine").entries("run")
    wrapped = json.loads(pack_record(run.record, ORIGIN))
    assert wrapped["sha256"] == digest(wrapped["record"])
    assert wrapped["imported"] == ORIGIN
    assert "imported" not in wrapped["record"]
