"""Who waits is told for whom; planted links, stopped holders, file systems without locks."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from oodbench.errors import StoreError
from oodbench.store import locks
from oodbench.store.locks import free, holder, locked
from oodbench.store.store import Key, Store

HOLD = (
    "import sys, time; from pathlib import Path; from oodbench.store.locks import locked\n"
    "with locked(Path(sys.argv[1]), 'it'):\n    print('held', flush=True); time.sleep(60)\n"
)


def hold(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def wait_for(path: Path, seconds: float) -> tuple[list[str], threading.Thread]:
    """Ask for a lock in a thread; what it was told."""
    told: list[str] = []

    def work() -> None:
        with locked(path, "fit abc", told.append):
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(seconds)
    return told, thread


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/locks")
def test_a_stopped_holder_is_named_also_where_progress_is_quiet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 1.0)
    path = tmp_path / "a.lock"
    process = hold(path)
    try:
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        told, thread = wait_for(path, 3.5)
        assert told == ["another process is making fit abc; waiting"]
        (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert f"process {process.pid}, which is stopped (kill -CONT {process.pid})" in line
        assert str(path) in line
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        thread.join(10)
        assert not thread.is_alive()
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def test_a_lock_that_is_free_is_had_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    with locked(tmp_path / "a.lock", "it", told.append), free(tmp_path / "a.lock") as ours:
        assert not ours
    with free(tmp_path / "a.lock") as ours:
        assert ours
    with free(tmp_path / "none.lock") as ours:
        assert ours
    assert not (tmp_path / "none.lock").exists()
    assert not told
    assert not caplog.records


@pytest.mark.parametrize("name", ["lock", "folder"])
def test_a_planted_link_is_not_followed(tmp_path: Path, name: str) -> None:
    """In a shared folder anyone can plant one; its target must not be emptied."""
    store, key = Store(tmp_path / "store"), Key("fit", {"a": 1})
    victim = tmp_path / "thesis.tex"
    victim.write_text("ten years")
    folder = tmp_path / "store" / "work" / "locks"
    folder.mkdir(parents=True)
    (folder / f"{key.digest}.lock").symlink_to(victim)
    with pytest.raises(StoreError, match="cannot write to") as caught, store.lock(key):
        pass
    assert "\n" not in str(caught.value)
    assert victim.read_text() == "ten years"


# ---------------------------------------------------------------------- file systems without locks
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_stands_for_the_lock_where_the_file_system_has_none(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    monkeypatch.setattr(locks, "_told", set())
    store, key = Store(tmp_path), Key("fit", {"a": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with store.lock(key), free(tmp_path / "work" / "locks" / f"{key.digest}.lock") as ours:
                assert not ours
        with store.lock(Key("fit", {"a": 2})):
            pass
    (line,) = [r.getMessage() for r in caplog.records]
    assert "file system without locks" in line


def test_a_lock_left_on_another_machine_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuses)
    monkeypatch.setattr(locks, "PATIENCE", 0.5)
    path = tmp_path / "a.lock"
    path.write_text("4711\nnode17.cluster\n")
    path.chmod(0o644)
    os.utime(path, (1.7e9, 1.7e9))
    _, thread = wait_for(path, 3)
    lines = [r.getMessage() for r in caplog.records if "waiting for fit abc" in r.getMessage()]
    assert len(lines) == 1
    assert "held by process 4711 of node17.cluster since 2023-11-14" in lines[0]
    assert f"remove {path}" in lines[0]
    path.unlink()
    thread.join(10)
    assert not thread.is_alive()


def test_a_lock_left_by_a_dead_process_of_this_machine_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no locks")

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr(fcntl, "flock", refuses)
    path = tmp_path / "a.lock"
    path.write_text(f"{dead.pid}\n{socket.gethostname()}\n")
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    _, thread = wait_for(path, 0)
    thread.join(20)
    assert not thread.is_alive()


def test_holder_of_something_that_is_no_lock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none"):
        assert holder(tmp_path / name).startswith("held by another process")
