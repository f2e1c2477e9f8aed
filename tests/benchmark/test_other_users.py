"""A store of several users: what one may not read is passed over, named, and left where it is."""

from __future__ import annotations

import importlib
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_process import invoke

import oodbench
from oodbench.datasets.loading import DataPlaces, load
from oodbench.errors import DataError, StoreError
from oodbench.store.checkpoint_files import read_sealed, write_sealed
from oodbench.store.storage import LocalStorage, UnreadableFileError
from oodbench.store.store import RECORD, Store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may read anything: as root, this process is nobody meanwhile."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture(scope="module", autouse=True)
def everything_imported() -> None:
    """An environment that only its owner may enter is read while that is allowed."""
    for module in pkgutil.walk_packages(oodbench.__path__, "oodbench."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder where others may write, with a finished store of which one run is private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        oodbench.run("digits-photos", ["mean-intensity", "pixel-variance"],
                     store=str(folder / "results" / "store"), quiet=True)  # fmt: skip
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        yield folder


def names(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def private(folder: Path, pattern: str) -> Path:
    path = sorted((folder / "results" / "store").glob(pattern))[0]
    path.chmod(0o000)
    return path


def test_readers_leave_another_users_record_where_it_is(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands = (("leaderboard", "--format", "csv"), ("report", "--out", "page.html"),
                ("store", "verify"), ("store", "gc", "--keep-days", "0"))  # fmt: skip
    for arguments in commands:
        invoke(shared, *arguments)  # imports everything while that is allowed
    table = invoke(shared, *commands[0])[1]
    path = private(shared, f"run/*/*/{RECORD}")
    before = names(shared)
    with somebody_else():
        done = {}
        for arguments in commands:
            caplog.clear()
            status, out, err = invoke(shared, *arguments)
            done[arguments] = status, out, err + caplog.text
    assert names(shared) == before
    path.chmod(0o666)
    for arguments, (status, out, err) in done.items():
        assert status == 0, (arguments, err)
        assert "Permission denied" in err, arguments
        assert "set aside" not in err
        if arguments[0] == "leaderboard":
            assert 1 < out.count("\n") < table.count("\n")
    assert invoke(shared, *commands[0])[1] == table


def test_run_says_so_before_it_makes_anything_in_vain(shared: Path) -> None:
    store = shared / "results" / "store"
    for path in store.glob(f"measure/*/*/{RECORD}"):
        path.chmod(0o000)
    for path in [*store.glob("run/*/*/*"), *store.glob("score/*/*/*")]:
        path.unlink()
    before = names(shared)
    with somebody_else():
        status, _, err = invoke(shared, "run", "--pair", "digits-photos", "--detector",
                                "mean-intensity", "--quiet")  # fmt: skip
    assert status == 2
    assert "Permission denied; make it readable or give another place with --store" in err
    kept = [name for name in before if "/measure/" in name]
    assert set(kept) <= set(names(shared))
    assert not [name for name in names(shared) if "damaged" in name]


def test_a_private_payload_is_no_damage(shared: Path) -> None:
    store = Store(shared / "results" / "store")
    path = private(shared, "score/*/*/scores.parquet")
    with somebody_else():
        entry = store.get("score", path.parent.name)
        assert entry is not None
        with pytest.raises(UnreadableFileError, match="Permission denied"):
            entry.read("scores.parquet")
    assert path.exists()


def test_private_caches_and_scratch_are_no_damage(shared: Path) -> None:
    cache = shared / "results" / "data"
    load("digits", "test", DataPlaces((), cache)).verify()
    for path in cache.glob("digits-test-*.json"):
        path.chmod(0o000)
    write_sealed(shared / "checkpoint", b"x")
    (shared / "checkpoint").chmod(0o000)
    before = names(shared)
    with somebody_else():
        with pytest.raises(DataError, match="Permission denied; make it readable or set OODBENCH"):
            load("digits", "test", DataPlaces((), cache))
        with pytest.raises(StoreError, match="cannot read"):
            read_sealed(shared / "checkpoint")
    assert names(shared) == before


@pytest.mark.parametrize("number", [5, 116])
def test_a_failing_disk_is_no_damage(
    shared: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(shared / "results" / "store")
    path = next(iter(store.entries("run"))).path
    failing = f"{store.storage.location}/{path}/{RECORD}"

    def opened(real: Callable[..., object]) -> Callable[..., object]:
        def open_(name: object, *rest: object, **more: object) -> object:
            if str(name) == failing:
                raise OSError(number, os.strerror(number), failing)
            return real(name, *rest, **more)

        return open_

    monkeypatch.setattr(os, "open", opened(os.open))
    assert isinstance(store.storage, LocalStorage)
    assert len(list(store.entries("run"))) == 1
    monkeypatch.undo()
    assert len(list(store.entries("run"))) == 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(path)
    assert "passed over" in line
