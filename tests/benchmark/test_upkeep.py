"""Verify, gc, export and import, on a store with real runs."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from archive_files import members, pack, resealed

import oodbench
from oodbench.cli import main
from oodbench.errors import StoreError, UnknownNameError
from oodbench.share.transfer import END, export_store, import_store
from oodbench.store.garbage import collect, remove
from oodbench.store.maintenance import needed, verify
from oodbench.store.records.files import pack_record, read_record
from oodbench.store.storage import LocalStorage
from oodbench.store.store import RECORD, STAGES, Key, Store

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two detectors on one pair and one of them on another; a fit without a run."""
    folder = tmp_path_factory.mktemp("finished")
    run = {"scale": "smoke", "store": str(folder / "store"), "quiet": True, "device": "cpu"}
    oodbench.run("digits-photos", ["vanilla-hvae", "mean-intensity"], **run)  # type: ignore[arg-type]
    oodbench.run("china-flower", ["mean-intensity"], **run)  # type: ignore[arg-type]
    Store(folder / "store").write(Key("fit", {"lonely": 1}), {"weights.safetensors": b"w" * 99})
    return folder / "store"


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    shutil.copytree(finished, tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["oodbench", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        out = capsys.readouterr()
        return status, out.out, out.err

    return run


def files(root: Path) -> dict[str, str]:
    """SHA-256 of every file of the stages, of records without where they were imported from."""
    return {
        str(p.relative_to(root)): hashlib.sha256(as_made(p)).hexdigest()
        for stage in STAGES
        for p in sorted((root / stage).rglob("*"))
        if p.is_file()
    }


def as_made(path: Path) -> bytes:
    record = read_record(path.read_bytes()) if path.name == RECORD else None
    return path.read_bytes() if record is None else pack_record(record)


def root(store: Store) -> Path:
    assert isinstance(store.storage, LocalStorage)
    return store.storage.root


# ---------------------------------------------------------------------- verify
def test_verify_counts_what_is_sound_and_names_what_is_not(store: Store, cli: Cli) -> None:
    status, out, err = cli("store", "verify", "--store", root(store))
    assert (status, err) == (0, "")
    assert "sound: run 3, score 6" in out
    path = next(root(store).glob("score/*/*/scores.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    status, out, err = cli("store", "verify", "--store", root(store))
    assert status == 2
    assert "score 5" in out
    assert err.splitlines()[-1].startswith("oodbench: error: 1 damaged: score/")
    assert cli("store", "verify", "--store", root(store))[0] == 0


def test_commands_on_no_store(tmp_path: Path, cli: Cli) -> None:
    for arguments in (("verify",), ("gc",)):
        status, _, err = cli("store", *arguments, "--store", tmp_path / "nowhere")
        assert status == 2
        assert "there is no store at" in err
    status, _, err = cli("store", "export", tmp_path / "x.tar", "--store", tmp_path / "nowhere")
    assert status == 2
    assert "no finished run" in err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- gc
def test_gc_removes_what_no_run_needs_and_nothing_else(store: Store, cli: Cli) -> None:
    keep = set(needed(store, store.entries("run")))
    table = oodbench.leaderboard(str(root(store)))
    litter = [
        root(store) / "fit" / "ab" / f"{'ab' * 32}.damaged-1" / "record.json",
        root(store) / "work" / ("cd" * 32) / "checkpoint.safetensors",
        root(store) / "score" / "ef" / ("ef" * 32) / "scores.parquet",
        next(root(store).glob("run/*/*")) / ".tmp-abc",
    ]
    for path in litter:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"litter")
    before = files(root(store))
    assert cli("store", "gc", "--store", root(store))[1].startswith("0 removed")  # all is recent
    dry = cli("store", "gc", "--dry-run", "--keep-days", 0, "--store", root(store))
    assert dry[0] == 0
    assert files(root(store)) == before
    assert all(path.exists() for path in litter)
    done = cli("store", "gc", "--keep-days", 0, "--store", root(store))
    assert done[1].splitlines()[:-1] == dry[1].splitlines()[:-1]
    assert not any(path.exists() for path in litter)
    left = {e.path for stage in STAGES for e in store.entries(stage)}
    assert left == keep
    assert verify(store).damaged == []
    assert oodbench.leaderboard(str(root(store))).equals(table)
    assert collect(store, 0).waste == []


def test_gc_leaves_what_another_process_is_at_work_on(store: Store) -> None:
    key = Key("fit", {"running": 1})
    scratch = store.scratch(key)
    (scratch / "checkpoint.safetensors").write_bytes(b"x")
    with store.lock(key):
        removed = remove(store, collect(store, 0).waste)
        assert scratch.exists()
    assert all(waste.path != scratch for waste in removed)
    assert scratch in [waste.path for waste in remove(store, collect(store, 0).waste)]


# ---------------------------------------------------------------------- export and import
def test_results_move_bit_for_bit(store: Store, tmp_path: Path, cli: Cli) -> None:
    archive, other = tmp_path / "a b.tar", Store(tmp_path / "other")
    assert cli("store", "export", archive, "--store", root(store))[0] == 0
    status, out, _ = cli("store", "import", archive, "--store", root(other))
    assert (status, out.split()[0]) == (0, str(len(needed(store, store.entries("run")))))
    mine = files(root(store))
    assert files(root(other)).items() <= mine.items()
    here, there = (oodbench.leaderboard(str(root(one))) for one in (store, other))
    assert there.drop(columns="notes").equals(here.drop(columns="notes"))
    again = import_store(other, archive)
    assert (again.written, again.known) == (0, int(out.split()[0]))
    once = archive.read_bytes()
    export_store(store, archive)
    assert archive.read_bytes() == once  # equal content, equal bytes
    # What has moved is used where it is trusted: nothing is made again.
    oodbench.run("digits-photos", ["vanilla-hvae"], scale="smoke", store=str(root(other)),
                 quiet=True, device="cpu", trust_imported=True)  # fmt: skip
    assert files(root(other)).items() <= mine.items()


def test_one_key_has_one_result(store: Store, tmp_path: Path) -> None:
    """A run of a known key with other metrics is refused, with all of its archive."""
    archive, other = tmp_path / "other.tar", tmp_path / "store"
    export_store(store, archive, ["digits-photos"], fits=False)
    import_store(Store(other), archive)
    before = files(other)
    content = []
    for name, data in members(archive):
        if name.startswith("run/"):
            scores = json.loads(data)["record"]["scores"]
            for score in scores.values():
                score["auroc"]["value"] = 1 - score["auroc"]["value"] * 0.9
            data = resealed(data, scores=scores)
        content.append((name, data))
    pack(archive, content)
    with pytest.raises(StoreError, match=r"other results under the same key \(.* auroc is .* here"):
        import_store(Store(other), archive)
    assert files(other) == before
    with pytest.raises(StoreError, match="not those of its scores"):
        import_store(Store(tmp_path / "empty"), archive)  # nor where nothing is known of it


def test_a_part_of_a_store(store: Store, tmp_path: Path) -> None:
    archive, other = tmp_path / "part.tar", Store(tmp_path / "other")
    export_store(store, archive, ["digits-photos"], fits=False)
    import_store(other, archive)
    assert [e.record["pair"] for e in other.entries("run")] == ["digits-photos"] * 2
    assert list(other.entries("fit")) == []
    with pytest.raises(UnknownNameError, match="nearest: digits-photos"):
        export_store(store, archive, ["digits-photo"])


def test_a_damaged_entry_is_not_exported(store: Store, tmp_path: Path) -> None:
    path = next(root(store).glob("measure/*/*/statistics.parquet"))
    runs = len(list(store.entries("run")))
    path.write_bytes(b"<html>")
    moved = export_store(store, tmp_path / "x.tar")
    assert moved.left_out <= 1
    assert import_store(Store(tmp_path / "other"), tmp_path / "x.tar").written == moved.written
    assert len(list(Store(tmp_path / "other").entries("run"))) == runs


def tampered(content: list[tuple[str, bytes]], kind: str) -> list[tuple[str, bytes]]:
    records = [i for i, (name, _) in enumerate(content) if name.endswith(RECORD)]
    payload = next(i for i, (n, _) in enumerate(content) if n.endswith("scores.parquet"))
    run = next(i for i in records if content[i][0].startswith("run/"))
    name, data = content[payload]
    if kind == "payload-bit":
        content[payload] = (name, data[:-1] + bytes([data[-1] ^ 1]))
    elif kind == "payload-missing":
        del content[payload]
    elif kind == "payload-twice":
        content.insert(payload, content[payload])
    elif kind == "record-bit":
        name, data = content[run]
        content[run] = (name, data.replace(b'"auroc"', b'"aUroc"', 1))
    elif kind == "record-swapped":
        (a, x), (b, y) = content[records[0]], content[records[1]]
        content[records[0]], content[records[1]] = (a, y), (b, x)
    elif kind == "record-of-other-parts":
        name, data = content[run]
        content[run] = (name, resealed(data, parts={"detector": "x"}))
    elif kind == "record-names-files-outside":
        name, data = content[run]
        wanted = {"../../x": {"sha256": "0" * 64, "bytes": 1}}
        content[run] = (name, resealed(data, files=wanted))
    elif kind == "run-without-scores":
        name, data = content[run]
        content[run] = (name, resealed(data, scores=None))
    elif kind == "run-beyond-hundred":
        name, data = content[run]
        scores = json.loads(data)["record"]["scores"]
        next(iter(scores.values()))["auroc"]["value"] = 7
        content[run] = (name, resealed(data, scores=scores))
    elif kind == "later-version":
        name, data = content[run]
        content[run] = (name, resealed(data, schema=2))
    elif kind == "end-missing":
        del content[-1]
    elif kind == "entry-missing":
        del content[run]
    elif kind == "entry-twice":
        content.insert(run, content[run])
    return content


@pytest.mark.parametrize(
    "kind",
    ["payload-bit", "payload-missing", "payload-twice", "record-bit", "record-swapped",
     "record-of-other-parts", "record-names-files-outside", "run-without-scores",
     "run-beyond-hundred", "later-version", "end-missing", "entry-missing", "entry-twice"],
)  # fmt: skip
def test_a_tampered_archive_changes_nothing(store: Store, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "x.tar"
    export_store(store, archive)
    content = members(archive)
    assert content[-1][0] == END
    pack(archive, tampered(content, kind))
    other = Store(tmp_path / "other")
    with pytest.raises(StoreError) as caught:
        import_store(other, archive)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.97, 0.999])
def test_a_cut_archive_changes_nothing(store: Store, tmp_path: Path, share: float) -> None:
    archive = tmp_path / "x.tar"
    export_store(store, archive)
    data = archive.read_bytes().rstrip(b"\0")
    archive.write_bytes(data[: int(share * len(data))])
    with pytest.raises(StoreError):
        import_store(Store(tmp_path / "other"), archive)
    assert not (tmp_path / "other").exists()


# ---------------------------------------------------------------------- places that refuse
@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_read_only_store_serves_leaderboards(store: Store, tmp_path: Path) -> None:
    """As another user, since root may write anywhere."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        shutil.copytree(root(store), Path(home, "store"))
        for path in (Path(home, "store"), *Path(home, "store").rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        # The other user may not be able to read the code: everything is imported before.
        code = (
            "import os, sys\n"
            "import filelock, numpy, secrets\n"
            "from click.testing import CliRunner\n"
            "from oodbench.cli import main, oodbench\n"
            "for command in (['leaderboard'], ['store', 'verify'], ['store', 'gc', '--dry-run']):\n"
            "    CliRunner().invoke(oodbench, [*command, *sys.argv[-2:]])\n"
            "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "main()\n"
        )
        results = {
            name: subprocess.run(
                [sys.executable, "-c", code, *arguments, "--store", str(Path(home, "store"))],
                capture_output=True, text=True, cwd="/", env={"OMP_NUM_THREADS": "1"},
            )
            for name, arguments in {
                "leaderboard": ["leaderboard", "--format", "csv"],
                "verify": ["store", "verify"],
                "gc": ["store", "gc", "--keep-days", "0"],
            }.items()
        }  # fmt: skip
        for path in Path(home, "store").rglob("*"):
            path.chmod(0o755)
    assert results["leaderboard"].returncode == 0, results["leaderboard"].stderr
    assert results["leaderboard"].stdout.count("\n") > 20
    assert results["verify"].returncode == 0, results["verify"].stderr
    assert results["gc"].returncode == 2
    assert os.strerror(errno.EACCES) in results["gc"].stderr
    assert "Traceback" not in results["gc"].stderr


def test_a_limit_on_file_sizes_is_one_clear_line(tmp_path: Path) -> None:
    """What a full disk does, without one: writes beyond 64 KiB fail."""
    import resource
    import subprocess

    np.savez(tmp_path / "big.npz", images=np.zeros((3000, 8, 8), np.uint8))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))  # noqa: E731
    code = (
        "import sys; from oodbench.store import *; from oodbench.errors import StoreError\n"
        "from oodbench.datasets.loading import *\n"
        f"store = Store({str(tmp_path / 'store')!r})\n"
        "store.write(Key('fit', {'a': 1}), {'small.bin': b'x'})\n"
        f"places = DataPlaces((), Path({str(tmp_path / 'cache')!r}))\n"
        "for work in (lambda: store.write(Key('fit', {'b': 1}), {'big.bin': b'x' * 99_999}),\n"
        f"             lambda: load({str(tmp_path / 'big.npz')!r}, 'test', places)):\n"
        "    try: work()\n"
        "    except StoreError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("File too large; raise the limit on file sizes" in line for line in lines)
    assert len(list(Store(tmp_path / "store").entries("fit"))) == 1
    assert not list(tmp_path.rglob(".tmp-*"))
    assert not list((tmp_path / "cache").glob("*.json"))
