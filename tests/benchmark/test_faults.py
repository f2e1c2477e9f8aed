"""Real processes killed for real, started together, and out of disk: nothing lost, same bits."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from in_process import invoke

from oodbench.cli.options import parse_time
from oodbench.interruption import Interrupted, listening, stop_after
from oodbench.store.payload import unpack_table
from oodbench.store.store import Store

ARGUMENTS = (
    "run", "--pair", "digits-photos", "--scale", "smoke", "--detector", "vanilla-hvae",
    "--checkpoint-seconds", "0", "--batch-size", "50",
)  # fmt: skip
# Slows every step, so that there is time to be killed in the middle; it changes no number.
SLOW_FIT = """
import time, oodbench.train.training as t
step = t._Loop._one_step
def slow(self, number):
    time.sleep(0.2)
    step(self, number)
t._Loop._one_step = slow
"""
SLOW_MEASURE = """
import time, oodbench.flow.measuring.blocks as m
block = m.launch
m.measure.__kwdefaults__["save_seconds"] = 0.0
m.BLOCK = 100
def slow(*arguments):
    time.sleep(0.3)
    return block(*arguments)
m.launch = slow
"""


def start(folder: Path, prelude: str = "", *more: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OODBENCH")}
    return subprocess.Popen(
        [sys.executable, "-c", prelude + "\nfrom oodbench.cli import main; main()", *ARGUMENTS,
         *more],
        cwd=folder, env=environment | {"OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < limit
        time.sleep(0.01)


def scores(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Digest of every score entry, and its columns."""
    entries = list(Store(folder / "results" / "store").entries("score"))
    assert len(entries) == 2
    return {e.digest: unpack_table(e.read("scores.parquet")) for e in entries}


def assert_same_bits(a: Path, b: Path) -> None:
    left, right = scores(a), scores(b)
    assert left.keys() == right.keys()
    for digest, columns in left.items():
        for name, values in columns.items():
            assert values.tobytes() == right[digest][name].tobytes(), name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, finish(start(folder))


@pytest.mark.parametrize(
    ("prelude", "sign"),
    [(SLOW_FIT, "checkpoint.safetensors"), (SLOW_MEASURE, "block-000000100.safetensors")],
    ids=["fit", "measure"],
)
def test_killed_and_run_again(
    prelude: str, sign: str, uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    process = start(tmp_path, prelude)
    work = tmp_path / "results" / "store" / "work"
    wait_for(lambda: any(work.rglob(sign)), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert any(work.rglob(sign))
    # `measure` is resumed with the same small blocks, as the same version of a program would.
    finish(start(tmp_path, SLOW_MEASURE if prelude == SLOW_MEASURE else ""))
    assert_same_bits(uninterrupted[0], tmp_path)
    assert not any(work.rglob("*.safetensors"))
    if prelude == SLOW_FIT:
        (fit,) = Store(tmp_path / "results" / "store").entries("fit")
        assert fit.record["resumed"] == 1


def test_the_end_of_the_time_saves_and_stops_with_a_status_of_its_own(
    uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    process = start(tmp_path, SLOW_FIT, "--stop-after", "1h")
    work = tmp_path / "results" / "store" / "work"
    wait_for(lambda: any(work.rglob("checkpoint.safetensors")), process)
    process.send_signal(signal.SIGALRM)  # what its timer sends after the hour
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    said = err.splitlines()[-1]
    assert re.fullmatch(
        r"oodbench: stopped by --stop-after while training: step \d+ of 16 is saved; the same"
        " command goes on from here", said,
    ), err  # fmt: skip
    finish(start(tmp_path, "", "--stop-after", "1h"))
    assert_same_bits(uninterrupted[0], tmp_path)
    (fit,) = Store(tmp_path / "results" / "store").entries("fit")
    assert fit.record["resumed"] == 1


def test_a_time_limit_is_a_timer_that_ends_with_the_command() -> None:
    def wait() -> None:
        with listening():
            stop_after(0.02)
            time.sleep(5)

    with pytest.raises(Interrupted) as caught:
        wait()
    assert caught.value.by_time
    assert caught.value.status == 75
    with listening():
        stop_after(30)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("3h50m", 13800), ("1d 12h", 129600), ("2.5h", 9000)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "h", "3h50", "-1h", "0s", "1w", "99999999d"])
def test_what_is_no_time_is_one_line(text: str, tmp_path: Path) -> None:
    status, _, err = invoke(tmp_path, "run", "--stop-after", text, "--quiet")
    assert (status, err.count("\n")) == (2, 1)
    assert "is no time; write 3h50m, 45m or 90s" in err


@pytest.mark.parametrize(
    ("number", "prelude", "sign", "said"),
    [
        (signal.SIGINT, SLOW_FIT, "checkpoint.safetensors",
         r"oodbench: interrupted while training: step (\d+) of 16 is saved; "),
        (signal.SIGTERM, SLOW_MEASURE, "block-000000100.safetensors",
         r"oodbench: interrupted while measuring: (\d+)00 of 500 images are saved"
         r" \(measure digits test\); "),
    ],
    ids=["SIGINT", "SIGTERM"],
)  # fmt: skip
def test_a_signal_finishes_the_step_and_says_how_to_go_on(
    number: signal.Signals, prelude: str, sign: str, said: str, tmp_path: Path
) -> None:
    process = start(tmp_path, prelude)
    work = tmp_path / "results" / "store" / "work"
    wait_for(lambda: any(work.rglob(sign)), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    found = re.fullmatch(said + "the same command goes on from here", err.splitlines()[-1])
    assert found, err
    assert "Traceback" not in err
    if number is signal.SIGINT:
        from oodbench.store.checkpoint_files import read_sealed
        from oodbench.store.payload import unpack_tensors

        (path,) = work.rglob(sign)
        data = read_sealed(path)
        assert data is not None
        meta = json.loads(bytes(unpack_tensors(data)["meta"].tolist()))
        assert meta["step"] == int(found[1])
    else:
        assert len(list(work.rglob("block-*"))) == int(found[1])


def test_signals_wait_for_what_is_being_written(tmp_path: Path) -> None:
    """Inside `held` the first signal waits, outside it and the second time it does not."""
    from oodbench.interruption import Interrupted, held, listening, pending, stop
    from oodbench.store.storage import atomic_file

    def send(number: signal.Signals = signal.SIGTERM) -> None:
        os.kill(os.getpid(), number)

    def write() -> None:
        with atomic_file(tmp_path / "whole") as file:
            send()
            assert pending()
            file.write(b"to the end")

    def loop() -> None:
        with held(), held():
            send(signal.SIGINT)
            stop("training")

    def insist() -> None:
        with held():
            send()
            send()
            (tmp_path / "never").touch()

    before = signal.getsignal(signal.SIGTERM)
    with listening():
        caught = []
        for action in (send, write, loop, insist):
            with pytest.raises(Interrupted) as raised:
                action()
            caught.append((raised.value.status, raised.value.where))
            assert not pending()
        assert caught == [(143, ""), (143, ""), (130, "training"), (143, "")]
    assert (tmp_path / "whole").read_bytes() == b"to the end"
    assert not (tmp_path / "never").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_identical_commands_train_once(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    both = [start(tmp_path), start(tmp_path)]
    tables = [finish(process) for process in both]
    assert tables[0] == tables[1]
    (fit,) = Store(tmp_path / "results" / "store").entries("fit")
    assert fit.record["resumed"] == 0
    assert_same_bits(uninterrupted[0], tmp_path)


def test_a_damaged_entry_is_made_again(uninterrupted: tuple[Path, str], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(uninterrupted[0], folder)
    store = folder / "results" / "store"
    for path in (*store.glob("run/*/*/record.json"), *store.glob("score/*/*/scores.parquet")):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(bytes(data))
    process = start(folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out == uninterrupted[1]
    assert "set aside" in err
    assert_same_bits(uninterrupted[0], folder)
    assert list(store.glob("score/*/*.damaged-*"))


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small tmpfs needs the right to mount")
    try:
        # The data cache fits elsewhere; the store does not fit on the disk.
        process = start(tmp_path, "", "--store", str(disk / "store"))
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2, err
        last = err.splitlines()[-1]
        assert last.startswith("oodbench: error: cannot write to ")
        assert os.strerror(errno.ENOSPC) in last
        assert "Traceback" not in err
        for record in (disk / "store").rglob("record.json"):
            json.loads(record.read_text())  # what was finished is whole
    finally:
        subprocess.run(["umount", str(disk)], check=False)


STRESS = Path(__file__).parents[1] / "stress"


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("kill_anywhere.py", ["--kills", "5", "--seed", "1"], "nothing lost, nothing changed"),
        ("many_at_once.py", ["--processes", "5"], "5 processes, 2 fits, 1 lock taken over"),
    ],
    ids=["kill-anywhere", "many-at-once"],
)
def test_short_forms_of_the_stress_commands(script: str, arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(STRESS / script), *arguments], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == said
