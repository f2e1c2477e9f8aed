"""Every kind of file of the store and of its caches, damaged in every way: noticed, made again."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import invoke

import oodbench
from oodbench.datasets.loading import DataPlaces, load
from oodbench.datasets.pairs import make_pair
from oodbench.declare.registry import load_plugin
from oodbench.store.checkpoint_files import read_sealed, write_sealed
from oodbench.store.maintenance import verify
from oodbench.store.payload import unpack_table
from oodbench.store.store import DamagedEntryError, Key, Store

PLUGIN = """
import torch
from oodbench import Detector, register

@register("damage-mean", cite="test")
class Mean(Detector):
    def fit(self, train, context):
        self.mean = torch.from_numpy(train.images.astype("float64").mean(0))

    def measure(self, images):
        return {"distance": ((images.double() - self.mean) ** 2).flatten(1).sum(1)}

    def score(self, statistics):
        return statistics["distance"]

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]
"""
STAGES = ("run", "score", "measure", "fit")
#: Files to damage, each of another entry, and how many stages to forget so that they are read.
FILES = {
    "run": (0, ["run/*/*/record.json"]),
    "score": (1, ["score/*/*/record.json", "score/*/*/scores.parquet"]),
    "measure": (2, ["measure/*/*/totals.safetensors", "measure/*/*/record.json",
                    "measure/*/*/statistics.parquet"]),
    "fit": (3, ["fit/*/*/weights.safetensors", "fit/*/*/state.safetensors"]),
    "fit-record": (3, ["fit/*/*/record.json"]),
}  # fmt: skip


def truncate(path: Path, other: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: np.random.default_rng(len(data)).integers(1, len(data))])


def flip(path: Path, other: bytes) -> None:
    data = bytearray(path.read_bytes())
    place = np.random.default_rng(len(data)).integers(len(data))
    data[place] ^= 1 << int(place % 8)
    path.write_bytes(bytes(data))


def empty(path: Path, other: bytes) -> None:
    path.write_bytes(b"")


def html(path: Path, other: bytes) -> None:
    path.write_bytes(b"<html><body><h1>503 Service Unavailable</h1></body></html>\n")


def of_another_key(path: Path, other: bytes) -> None:
    path.write_bytes(other)


def unreadable(path: Path, other: bytes) -> None:
    path.unlink()
    path.mkdir()  # what even root cannot read as a file


def loop(path: Path, other: bytes) -> None:
    path.unlink()
    path.symlink_to(path.name)


DAMAGES = (truncate, flip, empty, html, of_another_key, unreadable, loop)
Damage = Callable[[Path, bytes], None]


def run(folder: Path) -> object:
    """The table of a learned, a modelled and a trivial detector on small images."""
    frame = oodbench.run(
        make_pair(str(folder / "mine.npz"), str(folder / "other.npz")),
        ["vanilla-hvae", "damage-mean", "mean-intensity"],
        scale="smoke", store=str(folder / "store"), quiet=True, device="cpu",
    )  # fmt: skip
    return frame.drop(columns=["runs", "notes"]).to_dict("records")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    folder = tmp_path_factory.mktemp("finished")
    generator = np.random.default_rng(0)
    for name, low in (("mine", 0), ("other", 60)):
        images = generator.integers(low, 256, (60, 8, 8), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images, labels=np.arange(60) % 5)
    (folder / "plugin.py").write_text(PLUGIN)
    load_plugin(str(folder / "plugin.py"))
    return folder, run(folder)


@pytest.fixture
def copy(finished: tuple[Path, object], tmp_path: Path) -> Path:
    """A finished store with its images and split arrays, times of files kept."""
    source = finished[0]
    for name in ("mine.npz", "other.npz"):
        os.link(source / name, tmp_path / name)
    for name in ("store", "data"):
        shutil.copytree(source / name, tmp_path / name)
    return tmp_path


def one_warning_each(caplog: pytest.LogCaptureFixture, count: int) -> None:
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(lines) == count, lines
    assert all("set aside as" in line and "\n" not in line for line in lines)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("kind", [k for k in FILES if k != "fit-record"])
def test_damaged_files_of_the_store_are_made_again(
    finished: tuple[Path, object], copy: Path, damage: Damage, kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    store, (stages, patterns) = copy / "store", FILES[kind]
    chosen: list[Path] = []
    for pattern in patterns:
        taken = {path.parent for path in chosen}
        chosen.append(next(p for p in sorted(store.glob(pattern)) if p.parent not in taken))
    foreign = next(p for p in store.glob("score/*/*/*") if p.parent not in chosen).read_bytes()
    for path in chosen:
        damage(path, foreign)
    for stage in STAGES[:stages]:  # what was made of them, so that they are read at all
        shutil.rmtree(store / stage)
    assert run(copy) == finished[1]
    one_warning_each(caplog, len(chosen))
    for path in chosen:
        assert list(path.parent.parent.glob(f"{path.parent.name}.damaged-*"))
    assert verify(Store(store)).damaged == []


@pytest.mark.parametrize("damage", [flip, html], ids=lambda d: d.__name__)
def test_a_damaged_record_of_a_fit(
    finished: tuple[Path, object], copy: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    test_damaged_files_of_the_store_are_made_again(finished, copy, damage, "fit-record", caplog)


# ---------------------------------------------------------------------- split arrays
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("ending", ["[0-9a-f].npy", ".json", "labels.npy"])
def test_a_damaged_split_array_is_made_again(
    finished: tuple[Path, object], tmp_path: Path, damage: Damage, ending: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    places, name = DataPlaces((), tmp_path), str(finished[0] / "mine.npz")
    before, other = load(name, "test", places), load("digits", "test", places)
    (path,) = tmp_path.glob(f"mine-test-*{ending}")
    (foreign,) = tmp_path.glob(f"digits-test-*{ending}")
    stat = path.stat()
    damage(path, foreign.read_bytes())
    if damage is flip:  # a bit that rots leaves no trace in size and time
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = load(name, "test", places)
    if damage is flip and ending == "[0-9a-f].npy":
        with pytest.raises(DamagedEntryError, match="pixels do not match"):
            after.verify()
        after = load(name, "test", places)
    after.verify()
    other.verify()
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.images, load(name, "test", DataPlaces((), tmp_path / "n")).images)
    assert after.labels is not None
    assert after.labels.tolist() == (np.arange(60) % 5).tolist()
    one_warning_each(caplog, 1)


def test_rotten_pixels_are_noticed_before_anything_is_computed(
    copy: Path, finished: tuple[Path, object], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(copy / "data")
    shutil.rmtree(copy / "store")
    places = DataPlaces((), copy / "data")
    for split in ("train", "test"):
        load(str(copy / "mine.npz"), split, places, divide=True)
    for path in (copy / "data").glob("mine-*[0-9a-f].npy"):
        stat = path.stat()
        flip(path, b"")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(copy) == finished[1]
    one_warning_each(caplog, 2)


@pytest.mark.parametrize("stage", ["run", "score"])
def test_a_file_where_a_folder_should_be(
    finished: tuple[Path, object], copy: Path, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A prefix folder of the store that became a file is moved out of the way."""
    store = copy / "store"
    shutil.rmtree(store / "run")
    if stage == "run":
        (store / "run").write_bytes(b"")
    else:
        prefix = next((store / "score").iterdir())
        shutil.rmtree(prefix)
        prefix.write_bytes(b"")
    assert run(copy) == finished[1]
    one_warning_each(caplog, 1)


def payloads(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for stage in STAGES
        for path in sorted((store / stage).rglob("*"))
        if path.is_file() and path.name not in ("record.json", "log.csv")  # these hold times
    }


@pytest.mark.parametrize("stage", STAGES[1:])
def test_parts_of_a_store_that_were_deleted_are_made_again(
    finished: tuple[Path, object], copy: Path, stage: str
) -> None:
    before = payloads(copy / "store")
    shutil.rmtree(copy / "store" / stage)
    assert any("are not here" in note for note in verify(Store(copy / "store")).notes)
    told = missing(copy)
    assert told
    assert all(line.startswith(f"{stage} ") for line in told)
    assert run(copy) == finished[1]
    assert payloads(copy / "store") == before
    assert missing(copy) == []
    assert verify(Store(copy / "store")).notes == []


def test_half_a_copy_of_a_store_is_completed(finished: tuple[Path, object], copy: Path) -> None:
    before = payloads(copy / "store")
    gone = [next((copy / "store").glob(p)) for p in ("fit/*/*/weights*", "score/*/*/scores*")]
    gone[0].unlink()
    gone[1].write_bytes(gone[1].read_bytes()[:-9])  # a copy that was cut off
    assert {line.partition(" ")[0] for line in missing(copy)} == {"fit", "score"}
    assert run(copy) == finished[1]
    assert payloads(copy / "store").items() >= before.items()


def test_a_run_whose_lost_scores_come_out_otherwise_is_written_anew_and_named(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(copy / "store")
    entry = next(e for e in store.entries("run") if e.record["detector"] == "mean-intensity")
    record = copy_of(entry.record)
    record["scores"]["score"]["auroc"]["value"] = 0.999
    store.write(Key("run", entry.parts), {}, record)
    run(copy)
    assert not caplog.records  # nothing is lost: the run stays as it is
    shutil.rmtree(copy / "store" / "score")
    run(copy)
    (said,) = [r.getMessage() for r in caplog.records]
    assert "mean-intensity" in said
    assert "99.90 before" in said
    found = store.get("run", entry.digest)
    assert found is not None
    assert found.record["scores"] == entry.record["scores"]


def missing(folder: Path) -> list[str]:
    """What `run --dry-run` would list."""
    status, out, err = invoke(
        folder, "run", "--in-dist", "mine.npz", "--ood", "other.npz", "--scale", "smoke",
        *("--detector", "vanilla-hvae", "--detector", "damage-mean"),
        *("--detector", "mean-intensity", "--store", "store", "--dry-run"),
    )  # fmt: skip
    assert (status, err if "set aside" not in err else "") == (0, "")
    return [] if out == "nothing is missing\n" else out.splitlines()[:-1]


def copy_of(record: object) -> Any:
    return json.loads(json.dumps(record))


def test_every_file_is_read_by_verify(copy: Path) -> None:
    """`store verify` finds damage that no run would meet, such as that of a log."""
    store = copy / "store"
    flip(next(store.glob("fit/*/*/log.csv")), b"")
    (damaged,) = verify(Store(store)).damaged
    assert damaged.startswith("fit/")
    assert verify(Store(store)).damaged == []


def test_a_folder_of_another_key_is_refused(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(copy / "store")
    first, second = sorted((copy / "store").glob("run/*/*"))[:2]
    shutil.rmtree(first)
    shutil.copytree(second, first)
    assert len(list(store.entries("run"))) == 2
    one_warning_each(caplog, 1)


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    from oodbench.canonical_json import canonical_json, digest

    body = {"schema": 2, "anything": [1]}
    path = tmp_path / Key("run", {"x": 1}).path / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(canonical_json({"record": body, "sha256": digest(body)}))
    assert list(Store(tmp_path).entries("run")) == []
    assert path.exists()


# ---------------------------------------------------------------------- scratch
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_damaged_scratch_is_set_aside(
    tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = tmp_path / "a" / "checkpoint", tmp_path / "b" / "checkpoint"
    write_sealed(path, b"weights" * 50)
    write_sealed(other, b"weights" * 50)
    assert read_sealed(path) == b"weights" * 50
    damage(path, other.read_bytes())
    assert read_sealed(path) is None
    one_warning_each(caplog, 1)
    assert len(list(path.parent.glob("checkpoint.damaged-*"))) == 1
    assert read_sealed(path) is None  # now absent, and silently so
    one_warning_each(caplog, 1)


def test_a_read_only_store_is_read_past_the_damage(
    finished: tuple[Path, object], copy: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def read_only(source: object, target: object) -> None:
        raise OSError(30, "Read-only file system")

    flip(sorted((copy / "store").glob("run/*/*/record.json"))[0], b"")
    monkeypatch.setattr(os, "rename", read_only)
    frame = oodbench.leaderboard(str(copy / "store"))
    assert 0 < len(frame) < len(finished[1])  # type: ignore[arg-type]
    (line,) = [r.getMessage() for r in caplog.records]
    assert "passed over" in line
    assert "Read-only" in line


def test_an_entry_that_no_longer_parses_is_an_error_in_one_line(copy: Path) -> None:
    """Sound checksum, content of another kind: what only tampering gives."""
    store = Store(copy / "store")
    entry = next(iter(store.entries("measure")))
    record = {k: v for k, v in entry.record.items() if k not in ("files", "schema", "key")}
    key = Key(entry.stage, entry.parts)
    store.write(key, {"statistics.parquet": b"PAR1 of somebody else"}, record)
    shutil.rmtree(copy / "store" / "run")
    shutil.rmtree(copy / "store" / "score")
    found = store.find(key)
    assert found is not None
    with pytest.raises(DamagedEntryError, match="not a Parquet file"):
        found.parse("statistics.parquet", unpack_table)
    assert store.find(key) is None
    run(copy)
